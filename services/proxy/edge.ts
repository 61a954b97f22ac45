import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../../shared/clock.ts'
import type { ValkeySettings } from '../../shared/config/valkey-url.ts'
import { Fault } from '../../shared/faults.ts'
import type { ChildContext } from '../../shared/ipc/child.ts'
import type { Peer, SnapshotRef } from '../../shared/ipc/contract.ts'
import type { Fetch } from './auth/issuers.ts'
import type { TokenVerifier } from './auth/verifier.ts'
import { Credentials } from './credentials.ts'
import { EdgeEvents } from './edge-events.ts'
import { EdgePolicy } from './edge-policy.ts'
import { EdgeSessions } from './edge-sessions.ts'
import { Exchange } from './exchange.ts'
import { createHttp } from './http.ts'
import type { Ingress } from './ingress.ts'
import type { CoreDeps, McpCore } from './mcp/protocol/types.ts'
import { Measures } from './measures.ts'
import { metadata, metadataUrl } from './metadata.ts'
import { createOrigins, type Origins, preflight } from './origins.ts'
import { Passthrough } from './passthrough.ts'
import { PeerLink } from './peers/link.ts'
import { PeerServer } from './peers/server.ts'
import { createPipeline, type Pipeline } from './pipeline.ts'
import { KeepAlive } from './reply.ts'
import type { Sessions } from './sessions.ts'
import type { SnapshotHolder } from './snapshot.ts'
import { SyncLink } from './sync-link.ts'

export interface EdgeParts {
  readonly clock: Clock
  readonly createCore: (deps: CoreDeps) => McpCore
  /** The session store; absent: what is known of sessions is in memory. */
  readonly valkey?: ValkeySettings
  /** Fetches key documents of trusted issuers; the guarded one unless a test brings its own. */
  readonly fetch?: Fetch
}

const passthroughConcurrent = 256
/** What a message between workers holds besides what a client sent, bytes. */
const peerOverhead = 64 * 1024
/** Longest box that a client brings back in a body: a server's own state may be in it. */
const maxSealedChars = 64 * 1024

/** The whole proxy: what main.ts starts, and what a test starts with a core and a clock of its own. */
export class Edge {
  readonly #context: ChildContext<'proxy'>
  readonly #clock: Clock
  readonly #keepAlive = new KeepAlive()
  readonly #gate = { active: 0, max: 0 }
  readonly #origins: Origins
  readonly #passthrough: Passthrough
  readonly #policy: EdgePolicy
  readonly #peers: PeerLink
  readonly #peerServer: PeerServer
  readonly #sessions: EdgeSessions
  #met: Promise<void> | undefined
  readonly #core: McpCore
  readonly #pipeline: Pipeline
  readonly snapshots: SnapshotHolder
  readonly sessions: Sessions
  readonly credentials: Credentials
  readonly verifier: TokenVerifier
  readonly #events: EdgeEvents
  #ingress: Ingress | undefined
  #sync: SyncLink | undefined
  #stats: NodeJS.Timeout | undefined
  readonly #measures: Measures

  constructor(context: ChildContext<'proxy'>, parts: EdgeParts) {
    const { config, log } = context
    const { clock } = parts
    this.#context = context
    this.#measures = new Measures(context.meter)
    this.#clock = clock
    this.#gate.max = config.limits.concurrent
    this.#origins = createOrigins(config.origin, config.allowedOrigins)
    this.#policy = new EdgePolicy({
      context,
      clock,
      measures: this.#measures,
      fetch: parts.fetch,
      recheck: (objections) => this.#core.recheck(objections),
    })
    this.snapshots = this.#policy.snapshots
    this.verifier = this.#policy.verifier
    this.#peers = new PeerLink({ self: config.peer.id, log, maxEventChars: config.limits.responseBytes * 2 })
    this.#sessions = new EdgeSessions({
      link: this.#peers,
      idleTtlMs: config.sessionIdleTtlSecs * 1000,
      clock,
      log,
      measures: this.#measures,
      valkey: parts.valkey,
      tenantId: () => this.snapshots.latest?.snapshot.tenantId,
      onStore: (fault) => context.check('proxy.sessionStore', fault ? 'failing' : 'running', fault),
      local: () => this.#core.local,
    })
    const { sessions, box } = this.#sessions
    this.sessions = sessions
    this.credentials = new Credentials({
      ask: (request) => this.#link().ask(request),
      clock,
      log,
      measures: this.#measures,
    })
    this.#events = new EdgeEvents(context, clock, this.#measures, this.credentials)
    this.#core = parts.createCore({
      config,
      credentials: this.credentials,
      recorder: this.#events.recorder,
      addresses: this.#events.addresses,
      sessions: this.sessions,
      sessionLevels: this.sessions,
      sessionNotes: this.#sessions.notes,
      peers: this.#sessions.peers,
      measures: this.#measures,
      log,
      clock,
      standing: this.#policy.standing,
      seals: {
        seal: (purpose, plain) => box.seal(Buffer.from(plain), purpose),
        open: (purpose, sealed) => box.open(sealed, purpose, maxSealedChars)?.toString('utf8'),
      },
    })
    this.#peerServer = new PeerServer({
      calls: this.#core.local,
      sessions: this.sessions,
      log,
      maxBodyBytes: config.limits.bodyBytes + peerOverhead,
    })
    this.#passthrough = new Passthrough({
      socketPath: config.controlPlaneSocketPath,
      origin: config.origin,
      origins: this.#origins,
      bodyBytes: config.limits.bodyBytes,
      concurrent: passthroughConcurrent,
      log,
    })
    this.#pipeline = createPipeline({
      log,
      origins: this.#origins,
      gate: this.#gate,
      snapshots: this.snapshots,
      verifier: this.verifier,
      sessions: this.sessions,
      core: this.#core,
      recorder: this.#events.recorder,
      measures: this.#measures,
      body: {
        bytes: config.limits.bodyBytes,
        timeoutMs: config.limits.bodyTimeoutMs,
        depth: config.limits.depth,
      },
      metadataUrl: metadataUrl(config.origin, config.mcpPath),
      scopes: () => this.snapshots.latest?.snapshot.gateway.scopes ?? [],
      allow: 'POST, DELETE, OPTIONS',
    })
  }

  async start(): Promise<void> {
    const { config, check, stats } = this.#context
    check('proxy.snapshot', 'starting')
    check('proxy.sync', 'starting')
    check('proxy.peers', 'starting')
    await this.#events.start()
    await this.#policy.openGeoIp()
    this.#sync = new SyncLink({
      socketPath: config.syncSocketPath,
      clock: this.#clock,
      log: this.#context.log,
      onKeys: (keys) => this.#sessions.box.rekey(keys),
      onInvalidation: (issuer, subject, serverId) => {
        this.credentials.drop(issuer, subject, serverId)
        this.#core.credentialChanged(issuer, subject, serverId)
      },
      onGap: () => this.credentials.dropAll(),
      onState: (fault) => check('proxy.sync', fault ? 'failing' : 'running', fault),
    })
    if (this.#sessions.store) {
      check('proxy.sessionStore', 'starting')
      this.#sessions.start()
    } else this.#context.log.info('sessions are in memory: AEMBIT_VALKEY_URL is not set')
    await this.#peerServer.listen(config.peer.socketPath)
    this.#ingress = await createHttp(
      {
        mcp: (req, res) => this.#mcp(req, res),
        preflight: preflight(this.#origins, this.#keepAlive),
        metadata: metadata(() => this.snapshots.latest, this.#keepAlive),
        passthrough: (req, res) => void this.#passthrough.handle(req, res, this.#client(req)),
      },
      config,
      this.#context.log,
    )
    await this.#ingress.listen(config.socketPath)
    check('proxy.socket', 'running')
    this.#stats = setInterval(() => {
      this.#events.countLost()
      stats(this.stats())
    }, 5_000)
    this.#stats.unref()
  }

  /** The workers there are. Before this one counts as started it asks the others what they know of sessions. */
  meet(peers: readonly Peer[]): Promise<void> {
    this.#peers.set(peers)
    this.#met ??= this.#peers.sessions().then((all) => {
      for (const known of all) this.sessions.learn(known)
      this.#context.check('proxy.peers', 'running')
    })
    return this.#met
  }

  /** The supervisor relays that sync has a snapshot. */
  snapshot(ref: SnapshotRef, confirmedAt: number): Promise<void> {
    return this.#policy.snapshot(ref, confirmedAt)
  }

  stats(): Record<string, string | number> {
    const age = this.snapshots.ageMs
    return {
      /** When these figures were read: two reports can be told apart. */
      uptimeMs: Math.round(process.uptime() * 1000),
      /** Sockets, timers and requests that keep this process busy: what is never given back grows here. */
      handles: process.getActiveResourcesInfo().length,
      requests: this.#pipeline.requests,
      active: this.#gate.active,
      passthrough: this.#passthrough.active,
      connections: this.#ingress?.connections ?? 0,
      streams: this.#keepAlive.open,
      tokens: this.verifier.cached,
      sessions: this.sessions.known,
      sessionsCreated: this.sessions.created,
      peers: this.#peers.size,
      ...(this.#sessions.store?.stats() ?? { sessionStore: 'memory', sessionsActive: this.sessions.known }),
      credentials: this.credentials.cached,
      eventsDropped: this.#events.dropped,
      eventsSuppressed: this.#events.recorder.suppressed,
      snapshotVersion: this.snapshots.latest?.snapshot.version ?? 0,
      snapshotAgeMs: Number.isFinite(age) ? age : -1,
      ...this.#pipeline.stats(),
      ...this.#core.stats(),
    }
  }

  /** A front drains, or all of them: see Ingress. */
  retire(front?: number): void {
    this.#ingress?.retire(front)
  }

  /** Stops accepting, lets what runs finish until the deadline, writes the last events; gives what was left. */
  async drain(deadlineMs: number): Promise<number> {
    const { check } = this.#context
    check('proxy.socket', 'stopping')
    clearInterval(this.#stats)
    const [left] = await Promise.all([this.#ingress?.drain(deadlineMs) ?? 0, this.#core.drain(deadlineMs)])
    await this.#core.close()
    // Until here other workers reach what is held here.
    await this.#peerServer.close()
    await Promise.all([
      this.#peers.close(),
      this.#sessions.close(),
      this.#sync?.close(),
      this.#passthrough.close(),
      this.#policy.close(),
    ])
    this.#keepAlive.close()
    await this.#events.close()
    return left
  }

  #link(): SyncLink {
    if (!this.#sync) throw new Fault('control_plane.unreachable', { detail: 'not started' })
    return this.#sync
  }

  #client(req: IncomingMessage): ReturnType<Ingress['clientOf']> {
    return this.#ingress!.clientOf(req)
  }

  #mcp(req: IncomingMessage, res: ServerResponse): void {
    const x = new Exchange(
      req,
      res,
      this.#client(req),
      randomUUID(),
      this.#clock.now(),
      this.#keepAlive,
      this.#policy.locate,
    )
    this.#gate.active++
    res.once('close', () => {
      this.#gate.active--
      x.closed()
    })
    void this.#pipeline.run(x)
  }
}
