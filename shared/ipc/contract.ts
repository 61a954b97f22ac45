import { z } from 'zod'
import { type FaultCode, faults } from '../faults.ts'

/**
 * What the supervisor and its children say to each other: a star, one way, validated on arrival. No secrets, no
 * bodies, no questions with answers (those are HTTP on unix sockets). A message that does not fit its schema,
 * or another protocol number, has the child replaced.
 */
export const protocolVersion = 1
export const roles = ['front', 'proxy', 'sync', 'stdio-adapter'] as const
export type Role = (typeof roles)[number]

const faultJson = z.object({
  code: z.custom<FaultCode>((value) => typeof value === 'string' && Object.hasOwn(faults, value)),
  text: z.string(),
  detail: z.string().optional(),
})

/** Points at a 0600 file that holds a verified snapshot; the reader checks the digest. */
const snapshotRef = z.object({ version: z.number().int(), path: z.string(), sha256: z.string() })
export type SnapshotRef = z.infer<typeof snapshotRef>

/** Another proxy worker: what it is called in ids that clients carry, and its socket for workers. */
const peer = z.object({ id: z.string().max(40), socketPath: z.string() })
export type Peer = z.infer<typeof peer>

const fd = z.object({ fd: z.number().int().nonnegative() })

/**
 * File in which a supervisor that serves puts its name. Where its end is not the gateway's (sockets of systemd), a
 * process that lost its supervisor serves on until another name is there. null: it stops.
 */
const successionPath = z.string().nullable()

/** Where front takes its certificate from; `config/gateway-tls.ts` explains the fields. */
const tlsSource = z.discriminatedUnion('source', [
  z.object({ source: z.literal('files'), certChainPath: z.string(), privateKeyPath: z.string() }),
  z.object({
    source: z.literal('acme'),
    directoryUrl: z.string(),
    domains: z.array(z.string()).min(1),
    contact: z.array(z.string()),
    challenge: z.enum(['auto', 'http-01', 'tls-alpn-01']),
    eab: z.object({ keyId: z.string(), hmacKeyPath: z.string() }).nullable(),
    caPath: z.string().nullable(),
    dir: z.string(),
  }),
])

export const configSchemas = {
  front: z.object({
    logLevel: z.string(),
    /** Public origin, e.g. https://gw.example; where port 80 redirects to. */
    origin: z.string(),
    /** Inherited listening sockets. `https` carries plain HTTP where `tls` is null (loopback only). */
    listeners: z.object({ https: fd, http: fd.nullable() }),
    tls: tlsSource.nullable(),
    maxConnections: z.number().int().positive(),
    handshakeTimeoutMs: z.number().int().positive(),
    /** How long bytes of a client wait for a proxy to come back before the connection is closed. */
    proxyWaitMs: z.number().int().positive(),
    successionPath,
  }),
  proxy: z.object({
    logLevel: z.string(),
    version: z.string(),
    /** Which worker this is, from 0; names files, never changes behaviour. */
    worker: z.number().int().nonnegative(),
    origin: z.string(),
    /** Path of the MCP endpoint, e.g. /mcp. */
    mcpPath: z.string(),
    /** Port that clients see; goes into events. */
    publicPort: z.number().int(),
    socketPath: z.string(),
    successionPath,
    /** This worker as the others find it. */
    peer,
    syncSocketPath: z.string(),
    /** Where servers named `stdio:<name>` are; null: there are none here. */
    stdioSocketPath: z.string().nullable(),
    /** Single-name mode: every path that is not ours goes to this unix socket of the control plane. */
    controlPlaneSocketPath: z.string().nullable(),
    spoolDir: z.string(),
    sessionIdleTtlSecs: z.number().int().positive(),
    /** Changes with AEMBIT_VALKEY_URL, which may hold a password and reaches proxies by their environment. */
    sessionStore: z.string().nullable(),
    /** Milliseconds by the names of AEMBIT_MCP_GATEWAY_TIMEOUT. */
    timeouts: z.record(z.string(), z.number().int().positive()),
    trustedIssuerDomains: z.array(z.string()),
    /** MaxMind-format database; absent: conditions on place do not hold. */
    geoipDatabasePath: z.string().nullable().optional(),
    /** Extra Host and Origin values besides the origin's own. */
    allowedOrigins: z.array(z.string()),
    snapshotMaxAgeMs: z.number().int().positive(),
    limits: z.object({
      bodyBytes: z.number().int().positive(),
      bodyTimeoutMs: z.number().int().positive(),
      depth: z.number().int().positive(),
      concurrent: z.number().int().positive(),
      responseBytes: z.number().int().positive(),
    }),
  }),
  sync: z.object({
    logLevel: z.string(),
    version: z.string(),
    gatewayUrl: z.string(),
    agentControllerUrl: z.string(),
    /** `https://…`, or `unix:/path` for a control plane on the same machine. */
    controlPlaneUrl: z.string(),
    enrolmentSecretPath: z.string().nullable(),
    stateDir: z.string(),
    socketPath: z.string(),
    spoolDir: z.string(),
    spoolMaxBytes: z.number().int().positive(),
    snapshotMaxAgeMs: z.number().int().positive(),
  }),
  'stdio-adapter': z.object({
    logLevel: z.string(),
    socketPath: z.string(),
    /** The operator's file of local servers. A path, since it may hold secrets. */
    serversPath: z.string(),
    /** Files and folders of the gateway that a server in namespaces does not see. */
    hidden: z.array(z.string()),
    maxMessageBytes: z.number().int().positive(),
  }),
} as const

export type ConfigOf = { [R in Role]: z.infer<(typeof configSchemas)[R]> }

const common = [
  z.object({ type: z.literal('drain'), deadlineMs: z.number().int().nonnegative() }),
  z.object({ type: z.literal('ping'), n: z.number().int() }),
] as const

const configure = <R extends Role>(role: R) =>
  z.object({ type: z.literal('configure'), epoch: z.number().int(), config: configSchemas[role] })

/** Supervisor → child. */
export const commandSchemas = {
  front: z.discriminatedUnion('type', [
    configure('front'),
    ...common,
    /** Where new connections go; replaces the former list. Empty: hold them for proxyWaitMs. */
    z.object({ type: z.literal('proxies'), sockets: z.array(z.string()) }),
    /** This proxy ended with answers unfinished. */
    z.object({ type: z.literal('broke'), socket: z.string() }),
  ]),
  proxy: z.discriminatedUnion('type', [
    configure('proxy'),
    ...common,
    /** This front drains: its connections are ended politely, idle ones after a moment. */
    z.object({ type: z.literal('retire'), front: z.number().int() }),
    z.object({ type: z.literal('snapshot'), ref: snapshotRef, confirmedAt: z.number() }),
    /** The control plane said at `confirmedAt` (ms since the epoch) that `version` is still current. */
    z.object({ type: z.literal('confirmed'), version: z.number().int(), confirmedAt: z.number() }),
    /** All proxies there are, the addressed one and those that drain among them; replaces the former list. */
    z.object({ type: z.literal('peers'), peers: z.array(peer) }),
  ]),
  sync: z.discriminatedUnion('type', [configure('sync'), ...common]),
  'stdio-adapter': z.discriminatedUnion('type', [configure('stdio-adapter'), ...common]),
} as const

const check = <R extends Role>(role: R) =>
  z.object({
    type: z.literal('check'),
    check: z.custom<`${R}.${string}`>((value) => typeof value === 'string' && value.startsWith(`${role}.`)),
    status: z.enum(['starting', 'running', 'failing', 'stopping']),
    fault: faultJson.optional(),
  })

/** Numbers for `status`; flat, small, no secrets. */
const stats = z.object({
  type: z.literal('stats'),
  values: z.record(z.string(), z.union([z.string(), z.number()])),
})

const count = z.number().nonnegative()
const labelsOf = z.array(z.string().max(64)).max(4)
const nameOf = z.string().max(100)
/** What was counted since the last such report (`metrics/meter.ts`). `tenant` goes with the counts that have one. */
const measured = z.object({
  type: z.literal('measured'),
  tenant: z.string().max(200),
  counts: z.array(z.tuple([nameOf, labelsOf, count])).max(2_000),
  histograms: z.array(z.tuple([nameOf, labelsOf, z.array(count).max(64), count])).max(2_000),
})
export type Measured = z.infer<typeof measured>

const reports = <R extends Role>(role: R) =>
  [
    z.object({
      type: z.literal('hello'),
      protocol: z.number().int(),
      role: z.literal(role),
      build: z.string(),
    }),
    z.object({ type: z.literal('pong'), n: z.number().int(), lagMs: z.number(), rssBytes: z.number() }),
    z.object({ type: z.literal('drained'), left: z.number().int() }),
    check(role),
    stats,
    measured,
    z.object({ type: z.literal('applied'), epoch: z.number().int() }),
    z.object({ type: z.literal('rejected'), epoch: z.number().int(), fault: faultJson }),
  ] as const

/** Child → supervisor. */
export const reportSchemas = {
  front: z.discriminatedUnion('type', [...reports('front')]),
  proxy: z.discriminatedUnion('type', [...reports('proxy')]),
  sync: z.discriminatedUnion('type', [
    ...reports('sync'),
    z.object({ type: z.literal('snapshot'), ref: snapshotRef, confirmedAt: z.number() }),
    z.object({ type: z.literal('confirmed'), version: z.number().int(), confirmedAt: z.number() }),
  ]),
  'stdio-adapter': z.discriminatedUnion('type', [...reports('stdio-adapter')]),
} as const

export type Command<R extends Role> = z.infer<(typeof commandSchemas)[R]>
export type Report<R extends Role> = z.infer<(typeof reportSchemas)[R]>
/** Commands that a role handles itself; the rest is `runChild`'s. */
export type OwnCommand<R extends Role> = Exclude<Command<R>, { type: 'configure' | 'drain' | 'ping' }>
export type CheckStatus = 'starting' | 'running' | 'failing' | 'stopping'
