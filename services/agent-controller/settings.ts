import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import {
  type Env,
  type EnvResult,
  type EnvValues,
  optional,
  readEnv,
  required,
  secret,
} from '../../shared/config/env.ts'
import { absolutePath, boolean, httpUrl, integer, oneOf, type UrlRules } from '../../shared/config/parsers.ts'
import { logLevelNames } from '../../shared/log.ts'

const onlyOff = (what: string) => (raw: string) => {
  if (boolean(raw)) throw new Error(`is not supported by this version: ${what}`)
  return false
}
const absent = (what: string) => (): null => {
  throw new Error(`is not supported by this version: ${what}`)
}
const tlsOff = 'the controller serves this machine alone, over plain HTTP on 127.0.0.1; remove it'
const controlPlane: UrlRules = { unix: true }

/** The first twelve names are documented ones, as are their defaults; those after them are ours. */
export const controllerTable = {
  AEMBIT_TENANT_ID: required(identifier, 'id of the tenant this controller belongs to'),
  AEMBIT_AGENT_CONTROLLER_ID: optional(uuid, null, 'id of a registration this machine already holds'),
  AEMBIT_DEVICE_CODE: secret(optional(deviceCode, null, 'six digits, good for one registration')),
  AEMBIT_STACK_DOMAIN: optional(identifier, 'useast2.aembit.io', 'where the tenant is hosted'),
  AEMBIT_LOG_LEVEL: optional(oneOf(logLevelNames), 'information', 'how much is logged'),
  AEMBIT_METRICS_ENABLED: optional(boolean, true, 'serve /metrics'),
  AEMBIT_HTTP_PORT_DISABLED: optional(onlyOff('without HTTP nothing could enrol'), false, 'no HTTP port'),
  AEMBIT_MANAGED_TLS_HOSTNAME: optional(absent(tlsOff), null, 'TLS'),
  TLS_PEM_PATH: optional(absent(tlsOff), null, 'TLS'),
  TLS_KEY_PATH: optional(absent(tlsOff), null, 'TLS'),
  AEMBIT_KERBEROS_ATTESTATION_ENABLED: optional(onlyOff('use a device code'), false, 'Kerberos attestation'),
  KRB5_KTNAME: optional((raw) => raw, null, 'key table of Kerberos attestation; has no effect without it'),
  AEMBIT_CONTROL_PLANE_URL: optional(httpUrl(controlPlane), null, 'control plane, https:// or unix:/path'),
  AEMBIT_STATE_DIR: optional(absolutePath, '/var/lib/aembit_agent_controller', 'registration; made 0700'),
  AEMBIT_HTTP_PORT: optional(integer({ min: 1, max: 65535 }), 5000, 'port on 127.0.0.1'),
  AEMBIT_METRICS_PORT: optional(integer({ min: 1, max: 65535 }), 9090, 'port of /metrics'),
  AEMBIT_METRICS_LISTEN_ADDRESS: optional(ipAddress, '127.0.0.1', 'IP address of /metrics'),
  AEMBIT_ENROLMENT_SECRET_PATH: optional(secretFile, null, 'file with the secret gateways must send'),
} as const

export interface ControllerSettings {
  readonly tenantId: string
  /** The registration that the operator expects to find in the state folder. */
  readonly controllerId: string | null
  readonly deviceCode: string | null
  readonly controlPlaneUrl: string
  readonly stateDir: string
  readonly httpPort: number
  readonly metrics: { readonly address: string; readonly port: number } | null
  readonly logLevel: string
  readonly enrolmentSecret: string | null
}

/** Reads the environment and the file of the enrolment secret. */
export function parseControllerEnv(env: Env): EnvResult<ControllerSettings> {
  const read = readEnv(env, controllerTable, {
    check: (values, problem) => {
      if (values.AEMBIT_AGENT_CONTROLLER_ID && values.AEMBIT_DEVICE_CODE) {
        problem(
          'AEMBIT_DEVICE_CODE',
          'excludes AEMBIT_AGENT_CONTROLLER_ID: a code makes a new registration, an id names one',
        )
      }
      if (values.AEMBIT_METRICS_ENABLED && values.AEMBIT_METRICS_PORT === values.AEMBIT_HTTP_PORT) {
        problem('AEMBIT_METRICS_PORT', 'is the same as AEMBIT_HTTP_PORT')
      }
    },
  })
  return 'ok' in read ? { ok: toSettings(read.ok) } : read
}

const toSettings = (values: EnvValues<typeof controllerTable>): ControllerSettings => ({
  tenantId: values.AEMBIT_TENANT_ID,
  controllerId: values.AEMBIT_AGENT_CONTROLLER_ID,
  deviceCode: values.AEMBIT_DEVICE_CODE,
  controlPlaneUrl:
    values.AEMBIT_CONTROL_PLANE_URL ?? `https://${values.AEMBIT_TENANT_ID}.ec.${values.AEMBIT_STACK_DOMAIN}`,
  stateDir: values.AEMBIT_STATE_DIR,
  httpPort: values.AEMBIT_HTTP_PORT,
  metrics: values.AEMBIT_METRICS_ENABLED
    ? { address: values.AEMBIT_METRICS_LISTEN_ADDRESS, port: values.AEMBIT_METRICS_PORT }
    : null,
  logLevel: values.AEMBIT_LOG_LEVEL,
  enrolmentSecret: values.AEMBIT_ENROLMENT_SECRET_PATH,
})

/** Becomes part of a host name. */
function identifier(raw: string): string {
  if (!/^[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?$/i.test(raw)) {
    throw new Error('must be letters, digits, dots and hyphens')
  }
  return raw
}

function uuid(raw: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(raw)) throw new Error('must be a UUID')
  return raw.toLowerCase()
}

function deviceCode(raw: string): string {
  if (!/^\d{6}$/.test(raw)) throw new Error('must be six digits')
  return raw
}

function ipAddress(raw: string): string {
  if (isIP(raw) === 0) throw new Error('must be an IP address such as 127.0.0.1')
  return raw
}

/** The trimmed content; 16 characters at least, so that it can not be guessed. */
function secretFile(raw: string): string {
  let content: string
  try {
    content = readFileSync(absolutePath(raw), 'utf8').trim()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    throw new Error(code ? `${raw} can not be read (${code})` : (error as Error).message)
  }
  if (content.length < 16) throw new Error(`${raw} holds less than 16 characters`)
  return content
}
