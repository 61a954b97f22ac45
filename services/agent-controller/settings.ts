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
import {
  absolutePath,
  boolean,
  httpUrl,
  integer,
  isLoopbackHost,
  oneOf,
  type UrlRules,
} from '../../shared/config/parsers.ts'
import { readTlsFiles, TlsFileError, type TlsPaths } from '../../shared/config/tls-files.ts'
import { logLevelNames } from '../../shared/log.ts'
import { credentialsOf } from './attestation/aws.ts'
import {
  type AttestationSettings,
  type AttestationSource,
  attestationSources,
} from './attestation/collect.ts'

const onlyOff = (what: string) => (raw: string) => {
  if (boolean(raw)) throw new Error(`is not supported by this version: ${what}`)
  return false
}
const absent = (what: string) => (): null => {
  throw new Error(`is not supported by this version: ${what}`)
}
const managedTls =
  'the control plane issues no certificates; set TLS_PEM_PATH and TLS_KEY_PATH, or leave TLS off where the gateway ' +
  'is on this machine'
const controlPlane: UrlRules = { unix: true }

/** The first twelve names are documented ones, as are their defaults; those after them are ours. */
export const controllerTable = {
  AEMBIT_TENANT_ID: required(identifier, 'id of the tenant this controller belongs to'),
  AEMBIT_AGENT_CONTROLLER_ID: optional(uuid, null, 'which controller this machine is: proved by attestation'),
  AEMBIT_DEVICE_CODE: secret(optional(deviceCode, null, 'six digits, good for one registration')),
  AEMBIT_STACK_DOMAIN: optional(identifier, 'useast2.aembit.io', 'where the tenant is hosted'),
  AEMBIT_LOG_LEVEL: optional(oneOf(logLevelNames), 'information', 'how much is logged'),
  AEMBIT_METRICS_ENABLED: optional(boolean, true, 'serve /metrics'),
  AEMBIT_HTTP_PORT_DISABLED: optional(boolean, false, 'no HTTP port; with TLS there is none anyway'),
  AEMBIT_MANAGED_TLS_HOSTNAME: optional(
    absent(managedTls),
    null,
    'name of a certificate from the control plane',
  ),
  TLS_PEM_PATH: optional(
    absolutePath,
    null,
    'certificate chain in PEM: HTTPS on 5443 in place of HTTP on 5000',
  ),
  TLS_KEY_PATH: optional(absolutePath, null, 'its key'),
  AEMBIT_KERBEROS_ATTESTATION_ENABLED: optional(
    onlyOff('the control plane belongs to no Kerberos realm; use another attestation or a device code'),
    false,
    'Kerberos attestation',
  ),
  KRB5_KTNAME: optional((raw) => raw, null, 'key table of Kerberos attestation; has no effect without it'),
  AEMBIT_CONTROL_PLANE_URL: optional(httpUrl(controlPlane), null, 'control plane, https:// or unix:/path'),
  AEMBIT_STATE_DIR: optional(absolutePath, '/var/lib/aembit_agent_controller', 'registration; made 0700'),
  AEMBIT_HTTP_PORT: optional(integer({ min: 1, max: 65535 }), 5000, 'port on 127.0.0.1'),
  AEMBIT_HTTPS_PORT: optional(integer({ min: 1, max: 65535 }), 5443, 'port with TLS'),
  AEMBIT_HTTPS_LISTEN_ADDRESS: optional(
    ipAddress,
    '127.0.0.1',
    'address with TLS; another needs the enrolment secret',
  ),
  AEMBIT_METRICS_PORT: optional(
    integer({ min: 1, max: 65535 }),
    null,
    'port of /metrics; 9090, with TLS 9091',
  ),
  AEMBIT_METRICS_LISTEN_ADDRESS: optional(ipAddress, '127.0.0.1', 'IP address of /metrics'),
  AEMBIT_ENROLMENT_SECRET_PATH: optional(secretFile, null, 'file with the secret gateways must send'),
  AEMBIT_ATTESTATION: optional(
    oneOf(attestationSources),
    'auto' as AttestationSource,
    'what proves which machine this is',
  ),
  AEMBIT_OIDC_TOKEN_PATH: optional(
    absolutePath,
    null,
    'file with a token of an OpenID issuer, read each time',
  ),
  AEMBIT_OIDC_TOKEN: secret(optional((raw) => raw, null, 'such a token itself')),
  AEMBIT_ATTESTATION_CERT_PATH: optional(absolutePath, null, 'certificate chain of this machine, in PEM'),
  AEMBIT_ATTESTATION_KEY_PATH: optional(absolutePath, null, 'its key'),
} as const

export interface TlsSettings extends TlsPaths {
  readonly address: string
  readonly port: number
}

export interface ControllerSettings {
  readonly tenantId: string
  /** The controller that this machine is; a registration of this id in the state folder stands, else it attests. */
  readonly controllerId: string | null
  readonly deviceCode: string | null
  readonly attestation: AttestationSettings
  readonly controlPlaneUrl: string
  readonly stateDir: string
  readonly httpPort: number
  /** In place of plain HTTP. */
  readonly tls: TlsSettings | null
  readonly metrics: { readonly address: string; readonly port: number } | null
  readonly logLevel: string
  readonly enrolmentSecret: string | null
}

/** Reads the environment and the files that it names. */
export function parseControllerEnv(env: Env): EnvResult<ControllerSettings> {
  const read = readEnv(env, controllerTable, { check: checkTogether })
  return 'ok' in read ? { ok: toSettings(read.ok, env) } : read
}

type Values = EnvValues<typeof controllerTable>

function checkTogether(
  values: Partial<Values>,
  problem: (key: keyof Values & string, message: string) => void,
): void {
  const pair = (a: keyof Values & string, b: keyof Values & string): boolean => {
    if (Boolean(values[a]) === Boolean(values[b])) return Boolean(values[a])
    problem(values[a] ? b : a, `is needed beside ${values[a] ? a : b}`)
    return false
  }
  if (values.AEMBIT_AGENT_CONTROLLER_ID && values.AEMBIT_DEVICE_CODE) {
    problem(
      'AEMBIT_DEVICE_CODE',
      'excludes AEMBIT_AGENT_CONTROLLER_ID: a code makes a new registration, an id is proved by attestation',
    )
  }
  if (values.AEMBIT_OIDC_TOKEN && values.AEMBIT_OIDC_TOKEN_PATH) {
    problem('AEMBIT_OIDC_TOKEN', 'excludes AEMBIT_OIDC_TOKEN_PATH')
  }
  const hasCertificate = pair('AEMBIT_ATTESTATION_CERT_PATH', 'AEMBIT_ATTESTATION_KEY_PATH')
  if (values.AEMBIT_ATTESTATION === 'certificate' && !hasCertificate) {
    problem('AEMBIT_ATTESTATION', 'needs AEMBIT_ATTESTATION_CERT_PATH and AEMBIT_ATTESTATION_KEY_PATH')
  }
  if (values.AEMBIT_ATTESTATION === 'oidc' && !values.AEMBIT_OIDC_TOKEN && !values.AEMBIT_OIDC_TOKEN_PATH) {
    problem('AEMBIT_ATTESTATION', 'needs AEMBIT_OIDC_TOKEN_PATH or AEMBIT_OIDC_TOKEN')
  }
  if (hasCertificate)
    checkFiles(values, 'AEMBIT_ATTESTATION_CERT_PATH', 'AEMBIT_ATTESTATION_KEY_PATH', problem)
  const tls = pair('TLS_PEM_PATH', 'TLS_KEY_PATH')
  if (tls) checkFiles(values, 'TLS_PEM_PATH', 'TLS_KEY_PATH', problem)
  if (values.AEMBIT_HTTP_PORT_DISABLED && !values.TLS_PEM_PATH) {
    problem('AEMBIT_HTTP_PORT_DISABLED', 'leaves no port at all: set TLS_PEM_PATH and TLS_KEY_PATH too')
  }
  const wide =
    values.AEMBIT_HTTPS_LISTEN_ADDRESS !== undefined && !isLoopbackHost(values.AEMBIT_HTTPS_LISTEN_ADDRESS)
  if (wide && values.AEMBIT_ENROLMENT_SECRET_PATH === null) {
    problem(
      'AEMBIT_HTTPS_LISTEN_ADDRESS',
      'opens the port to other machines, any of which could enrol: set AEMBIT_ENROLMENT_SECRET_PATH too',
    )
  }
  const port = values.TLS_PEM_PATH ? values.AEMBIT_HTTPS_PORT : values.AEMBIT_HTTP_PORT
  if (values.AEMBIT_METRICS_ENABLED && port !== undefined && values.AEMBIT_METRICS_PORT === port) {
    problem(
      'AEMBIT_METRICS_PORT',
      `is the same as ${values.TLS_PEM_PATH ? 'AEMBIT_HTTPS_PORT' : 'AEMBIT_HTTP_PORT'}`,
    )
  }
}

type PathKey =
  | 'TLS_PEM_PATH'
  | 'TLS_KEY_PATH'
  | 'AEMBIT_ATTESTATION_CERT_PATH'
  | 'AEMBIT_ATTESTATION_KEY_PATH'

function checkFiles(
  values: Partial<Values>,
  cert: PathKey,
  key: PathKey,
  problem: (key: PathKey, message: string) => void,
): void {
  try {
    readTlsFiles({ certChainPath: values[cert] ?? '', privateKeyPath: values[key] ?? '' })
  } catch (error) {
    if (!(error instanceof TlsFileError)) throw error
    problem(error.file === 'cert' ? cert : key, error.message)
  }
}

function toSettings(values: Values, env: Env): ControllerSettings {
  const {
    TLS_PEM_PATH: pem,
    TLS_KEY_PATH: key,
    AEMBIT_OIDC_TOKEN_PATH: path,
    AEMBIT_OIDC_TOKEN: token,
  } = values
  const { AEMBIT_ATTESTATION_CERT_PATH: certificatePath, AEMBIT_ATTESTATION_KEY_PATH: keyPath } = values
  const tls = pem !== null && key !== null
  return {
    tenantId: values.AEMBIT_TENANT_ID,
    controllerId: values.AEMBIT_AGENT_CONTROLLER_ID,
    deviceCode: values.AEMBIT_DEVICE_CODE,
    attestation: {
      source: values.AEMBIT_ATTESTATION,
      oidcToken: path !== null ? { path } : token !== null ? { value: token } : null,
      certificate: certificatePath !== null && keyPath !== null ? { certificatePath, keyPath } : null,
      awsCredentials: credentialsOf(env),
    },
    controlPlaneUrl:
      values.AEMBIT_CONTROL_PLANE_URL ??
      `https://${values.AEMBIT_TENANT_ID}.ec.${values.AEMBIT_STACK_DOMAIN}`,
    stateDir: values.AEMBIT_STATE_DIR,
    httpPort: values.AEMBIT_HTTP_PORT,
    tls: tls
      ? {
          certChainPath: pem,
          privateKeyPath: key,
          address: values.AEMBIT_HTTPS_LISTEN_ADDRESS,
          port: values.AEMBIT_HTTPS_PORT,
        }
      : null,
    metrics: values.AEMBIT_METRICS_ENABLED
      ? {
          address: values.AEMBIT_METRICS_LISTEN_ADDRESS,
          port: values.AEMBIT_METRICS_PORT ?? (tls ? 9091 : 9090),
        }
      : null,
    logLevel: values.AEMBIT_LOG_LEVEL,
    enrolmentSecret: values.AEMBIT_ENROLMENT_SECRET_PATH,
  }
}

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
