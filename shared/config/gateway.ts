import { join } from 'node:path'
import { type Env, type EnvResult, type EnvValues, envDigest, printEnv, readEnv } from './env.ts'
import { gatewayTable } from './gateway-keys.ts'
import { checkTls, type TlsSource, toTlsSource } from './gateway-tls.ts'
import { isLoopbackHost } from './parsers.ts'
import { checkReadable } from './readable.ts'
import { readStdioServers } from './stdio-servers.ts'
import type { Timeouts } from './timeouts.ts'
import type { ValkeySettings } from './valkey-url.ts'

export type Values = EnvValues<typeof gatewayTable>

export interface GatewayConfig {
  readonly logLevel: string
  /** Issuer, without a trailing slash. */
  readonly authorizationServer: string
  /** Origin + path of the MCP endpoint: the resource that tokens are for. */
  readonly gatewayUrl: string
  readonly origin: string
  readonly mcpPath: string
  /** The port that clients see. */
  readonly publicPort: number
  readonly agentControllerUrl: string
  readonly controlPlaneUrl: string
  readonly controlPlaneSocketPath: string | null
  readonly enrolmentSecretPath: string | null
  /** The local servers that may be started; null: none. */
  readonly stdioServersPath: string | null
  /** null: plain HTTP on loopback. */
  readonly tls: TlsSource | null
  /** Ports; 0 = no such listener. */
  readonly listen: {
    readonly address: string
    readonly https: number
    readonly http: number
    readonly metrics: number
  }
  readonly workers: number
  readonly warmSpares: boolean
  readonly runtimeDir: string
  readonly stateDir: string
  readonly sessionIdleTtlSecs: number
  /** null: what is known of sessions is in memory. */
  readonly valkey: ValkeySettings | null
  readonly trustedIssuerDomains: readonly string[]
  readonly geoipDatabasePath: string | null
  readonly timeouts: Timeouts
  readonly allowedOrigins: readonly string[]
  readonly maxBodyBytes: number
  readonly snapshotMaxAgeMs: number
  readonly drainMs: number
  /** What `--check` shows: every setting as it counts, secrets hidden, and a digest of them. */
  readonly printed: readonly { key: string; value: string }[]
  readonly digest: string
}

/** Longest socket name in the runtime folder, and what sun_path holds (unix(7)) less its closing zero. */
const longestSocketName = 'proxy-63.999999.sock'
const maxSocketPath = 107

/**
 * Reads the environment and the files it names. Touches nothing else. A certificate that has ended at `now` is a problem;
 * null: it is none.
 */
export function parseGatewayEnv(env: Env, now: number | null = Date.now()): EnvResult<GatewayConfig> {
  const read = readEnv(env, gatewayTable, { check: (values, problem) => check(values, problem, now) })
  return 'ok' in read ? { ok: toConfig(read.ok) } : read
}

function check(
  values: Partial<Values>,
  problem: (key: keyof typeof gatewayTable, message: string) => void,
  now: number | null,
): void {
  const { AEMBIT_AUTHORIZATION_SERVER: server, AEMBIT_TENANT_URL: tenant } = values
  if (server === null && tenant === null) problem('AEMBIT_AUTHORIZATION_SERVER', 'is required')
  if (server && tenant && server !== tenant) {
    problem('AEMBIT_TENANT_URL', 'differs from AEMBIT_AUTHORIZATION_SERVER; give one of them')
  }
  checkScheme(values, problem)
  checkTls(values, httpPort(values), problem, now)
  if (values.AEMBIT_PLAIN_HTTP && values.AEMBIT_HTTP_PORT) {
    problem('AEMBIT_HTTP_PORT', 'has no use with AEMBIT_PLAIN_HTTP: there is no https to redirect to')
  }

  const { AEMBIT_HTTPS_PORT: https, AEMBIT_HTTP_PORT: http, AEMBIT_METRICS_PORT: metrics } = values
  if (https !== undefined && httpPort(values) === https)
    problem('AEMBIT_HTTP_PORT', 'is the same as AEMBIT_HTTPS_PORT')
  if (metrics && (metrics === https || metrics === http))
    problem('AEMBIT_METRICS_PORT', 'is the port of another listener')
  const directory = values.AEMBIT_RUNTIME_DIR
  if (directory && Buffer.byteLength(join(directory, longestSocketName)) > maxSocketPath) {
    problem(
      'AEMBIT_RUNTIME_DIR',
      `is too long for unix sockets (at most ${maxSocketPath - longestSocketName.length - 1} bytes)`,
    )
  }
  if (values.AEMBIT_STDIO_SERVERS_PATH) {
    const read = readStdioServers(values.AEMBIT_STDIO_SERVERS_PATH)
    if ('problems' in read)
      for (const { message } of read.problems) problem('AEMBIT_STDIO_SERVERS_PATH', message)
  }
  if (values.AEMBIT_ENROLMENT_SECRET_PATH) {
    checkReadable(values.AEMBIT_ENROLMENT_SECRET_PATH, (message) =>
      problem('AEMBIT_ENROLMENT_SECRET_PATH', message),
    )
  }
}

export type Tell = (key: keyof typeof gatewayTable, message: string) => void

function checkScheme(values: Partial<Values>, problem: Tell): void {
  const { AEMBIT_PLAIN_HTTP: plain, AEMBIT_LISTEN_ADDRESS: address, AEMBIT_MCP_GATEWAY_URL: url } = values
  if (plain && address !== undefined && !isLoopbackHost(address)) {
    problem('AEMBIT_PLAIN_HTTP', 'needs a loopback AEMBIT_LISTEN_ADDRESS such as 127.0.0.1')
  }
  if (plain === false && url?.startsWith('http:')) {
    problem('AEMBIT_MCP_GATEWAY_URL', 'must be https, or set AEMBIT_PLAIN_HTTP=true on loopback')
  }
}

/** Where TLS is off there is nothing to redirect to. */
function httpPort(values: Partial<Values>): number {
  return values.AEMBIT_HTTP_PORT ?? (values.AEMBIT_PLAIN_HTTP ? 0 : 80)
}

function toConfig(values: Values): GatewayConfig {
  const url = new URL(values.AEMBIT_MCP_GATEWAY_URL)
  const mcpPath = url.pathname === '/' ? '/mcp' : url.pathname
  const authorizationServer = values.AEMBIT_AUTHORIZATION_SERVER ?? values.AEMBIT_TENANT_URL ?? ''
  const http = httpPort(values)
  const printed = printEnv(gatewayTable, { ...values, AEMBIT_HTTP_PORT: http })
  return Object.freeze({
    logLevel: values.AEMBIT_LOG_LEVEL,
    authorizationServer,
    gatewayUrl: url.origin + mcpPath,
    origin: url.origin,
    mcpPath,
    publicPort: Number(url.port) || (url.protocol === 'https:' ? 443 : 80),
    agentControllerUrl: values.AEMBIT_AGENT_CONTROLLER_URL,
    controlPlaneUrl: values.AEMBIT_CONTROL_PLANE_URL ?? authorizationServer,
    controlPlaneSocketPath: values.AEMBIT_CONTROL_PLANE_SOCKET,
    enrolmentSecretPath: values.AEMBIT_ENROLMENT_SECRET_PATH,
    stdioServersPath: values.AEMBIT_STDIO_SERVERS_PATH,
    tls: toTlsSource(values, url.hostname),
    listen: {
      address: values.AEMBIT_LISTEN_ADDRESS,
      https: values.AEMBIT_HTTPS_PORT,
      http,
      metrics: values.AEMBIT_METRICS_PORT,
    },
    workers: values.AEMBIT_PROXY_WORKERS,
    warmSpares: values.AEMBIT_WARM_SPARES,
    runtimeDir: values.AEMBIT_RUNTIME_DIR,
    stateDir: values.AEMBIT_STATE_DIR,
    sessionIdleTtlSecs: values.AEMBIT_MCP_SESSION_IDLE_TTL_SECS,
    valkey: values.AEMBIT_VALKEY_URL,
    trustedIssuerDomains: values.AEMBIT_TRUSTED_ISSUER_DOMAINS,
    geoipDatabasePath: values.AEMBIT_GEOIP_DATABASE_PATH,
    timeouts: values.AEMBIT_MCP_GATEWAY_TIMEOUT,
    allowedOrigins: values.AEMBIT_ALLOWED_ORIGINS,
    maxBodyBytes: values.AEMBIT_MAX_BODY_BYTES,
    snapshotMaxAgeMs: values.AEMBIT_SNAPSHOT_MAX_AGE_SECS * 1000,
    drainMs: values.AEMBIT_DRAIN_SECS * 1000,
    printed,
    digest: envDigest(printed),
  })
}
