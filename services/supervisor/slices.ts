import { createHmac, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { GatewayConfig } from '../../shared/config/gateway.ts'
import type { ConfigOf, Peer } from '../../shared/ipc/contract.ts'
import { version } from '../../shared/version.ts'

/** What each child may know of the configuration: its slice, and nothing else. */

/** Descriptors of the front's sockets: 0 to 2 are the standard ones, 3 is IPC. */
export const frontFds = { https: 4, http: 5 } as const

const maxConnections = 8192
const handshakeTimeoutMs = 10_000
/** Long enough for a proxy that has to be started twice, short enough for a client's own time-out. */
const proxyWaitMs = 15_000
const maxResponseBytes = 16 * 1024 * 1024
const spoolMaxBytes = 256 * 1024 * 1024

export const syncSocketPath = (config: GatewayConfig): string => join(config.runtimeDir, 'sync.sock')
export const stdioSocketPath = (config: GatewayConfig): string => join(config.runtimeDir, 'stdio.sock')
/** Of sync alone, apart from what front keeps of ACME. */
export const policyDir = (config: GatewayConfig): string => join(config.stateDir, 'policy')
/** Who serves; see shared/ipc/succession.ts. */
export const successionPath = (config: GatewayConfig): string => join(config.runtimeDir, 'serving')
export const spoolDir = (config: GatewayConfig): string => join(config.stateDir, 'spool')
export const proxySocketPath = (config: GatewayConfig, worker: number, generation: number): string =>
  join(config.runtimeDir, `proxy-${worker}.${generation}.sock`)

/** Names of the same form as the sockets', never used twice: clients carry them in ids of questions. */
export const proxyPeer = (config: GatewayConfig, worker: number, generation: number): Peer => ({
  id: `${worker}.${generation}`,
  socketPath: join(config.runtimeDir, `peer-${worker}.${generation}.sock`),
})

/** Tells two secrets apart, to this process alone: nobody can try passwords against it. */
const digestKey = randomBytes(32)
const keyedDigest = (text: string): string => createHmac('sha256', digestKey).update(text).digest('base64url')

/** `followed`: where the supervisor's end is not the gateway's. */
export function frontSlice(config: GatewayConfig, followed: boolean): ConfigOf['front'] {
  return {
    logLevel: config.logLevel,
    origin: config.origin,
    listeners: {
      https: { fd: frontFds.https },
      http: config.listen.http === 0 ? null : { fd: frontFds.http },
    },
    tls: tlsSlice(config.tls),
    maxConnections,
    handshakeTimeoutMs,
    proxyWaitMs,
    successionPath: followed ? successionPath(config) : null,
  }
}

function tlsSlice(tls: GatewayConfig['tls']): ConfigOf['front']['tls'] {
  if (tls?.source !== 'acme') return tls
  return { ...tls, domains: [...tls.domains], contact: [...tls.contact] }
}

export function proxySlice(
  config: GatewayConfig,
  worker: number,
  generation: number,
  followed: boolean,
): ConfigOf['proxy'] {
  return {
    logLevel: config.logLevel,
    version,
    worker,
    origin: config.origin,
    mcpPath: config.mcpPath,
    publicPort: config.publicPort,
    socketPath: proxySocketPath(config, worker, generation),
    successionPath: followed ? successionPath(config) : null,
    peer: proxyPeer(config, worker, generation),
    syncSocketPath: syncSocketPath(config),
    stdioSocketPath: config.stdioServersPath === null ? null : stdioSocketPath(config),
    controlPlaneSocketPath: config.controlPlaneSocketPath,
    spoolDir: spoolDir(config),
    sessionIdleTtlSecs: config.sessionIdleTtlSecs,
    sessionStore: config.valkey && keyedDigest(JSON.stringify(config.valkey)),
    timeouts: { ...config.timeouts },
    trustedIssuerDomains: [...config.trustedIssuerDomains],
    geoipDatabasePath: config.geoipDatabasePath,
    allowedOrigins: [...config.allowedOrigins],
    snapshotMaxAgeMs: config.snapshotMaxAgeMs,
    limits: {
      bodyBytes: config.maxBodyBytes,
      bodyTimeoutMs: 30_000,
      depth: 64,
      concurrent: 1024,
      responseBytes: maxResponseBytes,
    },
  }
}

export function syncSlice(config: GatewayConfig): ConfigOf['sync'] {
  return {
    logLevel: config.logLevel,
    version,
    gatewayUrl: config.gatewayUrl,
    agentControllerUrl: config.agentControllerUrl,
    controlPlaneUrl: config.controlPlaneUrl,
    enrolmentSecretPath: config.enrolmentSecretPath,
    stateDir: policyDir(config),
    socketPath: syncSocketPath(config),
    spoolDir: spoolDir(config),
    spoolMaxBytes,
    snapshotMaxAgeMs: config.snapshotMaxAgeMs,
  }
}

export function stdioSlice(config: GatewayConfig, serversPath: string): ConfigOf['stdio-adapter'] {
  const { runtimeDir, stateDir, enrolmentSecretPath, tls } = config
  return {
    logLevel: config.logLevel,
    socketPath: stdioSocketPath(config),
    serversPath,
    hidden: [
      runtimeDir,
      stateDir,
      serversPath,
      ...(enrolmentSecretPath === null ? [] : [enrolmentSecretPath]),
      // The folder of ACME is part of stateDir.
      ...(tls?.source === 'files' ? [tls.privateKeyPath] : []),
    ],
    maxMessageBytes: maxResponseBytes,
  }
}

/** Settings that name sockets, folders and process counts: a change of one is a restart of the gateway, not a reload. */
export function fixedChanges(now: GatewayConfig, next: GatewayConfig): string[] {
  const rows: [string, unknown, unknown][] = [
    ['AEMBIT_LISTEN_ADDRESS', now.listen.address, next.listen.address],
    ['AEMBIT_HTTPS_PORT', now.listen.https, next.listen.https],
    ['AEMBIT_HTTP_PORT', now.listen.http, next.listen.http],
    ['AEMBIT_METRICS_PORT', now.listen.metrics, next.listen.metrics],
    ['AEMBIT_PLAIN_HTTP', now.tls === null, next.tls === null],
    ['AEMBIT_PROXY_WORKERS', now.workers, next.workers],
    ['AEMBIT_RUNTIME_DIR', now.runtimeDir, next.runtimeDir],
    ['AEMBIT_STATE_DIR', now.stateDir, next.stateDir],
    ['AEMBIT_STDIO_SERVERS_PATH', now.stdioServersPath === null, next.stdioServersPath === null],
  ]
  return rows.filter(([, before, after]) => before !== after).map(([key]) => key)
}
