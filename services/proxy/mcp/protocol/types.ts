import type { IncomingHttpHeaders } from 'node:http'
import type { Clock } from '../../../../shared/clock.ts'
import type { Fault } from '../../../../shared/faults.ts'
import type { ConfigOf } from '../../../../shared/ipc/contract.ts'
import type { Logger } from '../../../../shared/log.ts'
import type {
  Circumstances,
  Decision,
  PolicyIndex,
  Principal,
  ToolAccessVerdict,
} from '../../../../shared/policy.ts'
import type { CredentialAnswer } from '../../../../shared/wire/credential.ts'
import type { ToolPinning } from '../../../../shared/wire/event.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Measures, Outcome } from '../../measures.ts'
import type { ServerAddresses } from '../../server-addresses.ts'
import type { KeptUpstream, SessionNotes } from './kept.ts'
import type { LocalCalls, Peers } from './peers.ts'

/** Bounds of calls at legacy servers that wait for what a modern client has to answer. */
export interface ParkedLimits {
  /** A client has this long to come back with its answers, ms. */
  readonly parkMs: number
  /** A call with all its rounds, ms. */
  readonly lifeMs: number
  readonly perPerson: number
  readonly total: number
}

export type JsonObject = { [key: string]: unknown }
export type RequestId = string | number

export interface JsonRpcRequest {
  jsonrpc: '2.0'
  id: RequestId
  method: string
  params?: JsonObject
}
export interface JsonRpcNotification {
  jsonrpc: '2.0'
  method: string
  params?: JsonObject
}
export interface JsonRpcError {
  code: number
  message: string
  data?: unknown
}
export interface JsonRpcResponse {
  jsonrpc: '2.0'
  id: RequestId | null
  result?: JsonObject
  error?: JsonRpcError
}
export type JsonRpcMessage = JsonRpcRequest | JsonRpcNotification | JsonRpcResponse

/** legacy: initialize handshake (<= 2025-11-25); modern: stateless (2026-07-28 and later). */
export type Era = 'legacy' | 'modern'

/** What an `Mcp-Session-Id` seals. Legacy clients alone have one. */
export interface Session {
  readonly id: string
  readonly protocolVersion: string
  readonly clientCapabilities: JsonObject
  readonly clientInfo?: JsonObject
  /** Milliseconds since the epoch. */
  readonly issuedAt: number
  /** Issuer and subject in one string; never token bytes. */
  readonly principalKey: string
  /** Another process began it: this one had to open its id. */
  readonly restored?: boolean
}

/** A stream of server-sent events towards the client. Sends after `end` are dropped. */
export interface SseWriter {
  /** One JSON-RPC message as one event. Resolves when the client's side can take more. */
  send(message: string): Promise<void> | void
  comment(text: string): void
  end(): void
}

/** The one answer to a client's POST: exactly one of json, stream or accepted is called. */
export interface Reply {
  json(status: number, body: string, headers?: Record<string, string>): void
  stream(headers?: Record<string, string>): SseWriter
  /** 202 without a body (notifications and responses). */
  accepted(): void
}

/** One authenticated client message, admitted by the gateway policy. */
export interface McpCall {
  /** UUID per client request; joins its events. */
  readonly connectionId: string
  readonly principal: Principal
  /** The snapshot that this request is decided on, from start to end. */
  readonly index: PolicyIndex
  /** When and from where it came; what conditions on time and place are decided on. */
  readonly circumstances: Circumstances
  readonly era: Era
  readonly protocolVersion: string
  /** Null: modern, initialize itself, or a legacy client that sent no session id. */
  readonly session: Session | null
  readonly message: JsonRpcMessage
  readonly headers: IncomingHttpHeaders
  /** The client went away. For a modern client this cancels, for a legacy one it does not. */
  readonly signal: AbortSignal
  readonly reply: Reply
  readonly client: { readonly address: string; readonly port: number }
}

/** In the words of workload events. */
export interface ContentSecurityVerdict {
  readonly aembitMcpToolsAcl?: ToolAccessVerdict
  readonly aembitToolPinning?: ToolPinning
  readonly crowdStrikeAidr?: GuardVerdict
  readonly httpGuard?: GuardVerdict
}

export interface GuardVerdict {
  readonly decision: 'allowed' | 'transformed' | 'blocked'
  readonly requestId?: string
  readonly reason?: string
}

export interface EventDetails {
  /** Null on the client's side of a fan-out. */
  server: ServerWorkload | null
  decision: Decision | null
  /** The server's own tool name, unprefixed. */
  toolName?: string
  outcome: 'Passthrough' | 'Modified' | 'Error'
  reason?: string
  reasonCode?: string
  /** What content security said of it. */
  contentSecurity?: ContentSecurityVerdict
}

/** Never throws, never waits: a full spool is the recorder's problem, not the request's. */
export interface Recorder {
  request(call: McpCall, details: EventDetails): void
  response(call: McpCall, details: EventDetails & { httpResponseCode: number; durationMs: number }): void
}

export interface Credentials {
  /**
   * `rejected`: SHA-256 (base64url) of the credential value that the server refused; `scope`: what it demands beyond
   * what the credential is good for.
   */
  get(
    principal: Principal,
    server: ServerWorkload,
    rejected?: string,
    scope?: string,
    clientIp?: string,
  ): Promise<CredentialAnswer>
}

/** Boxes that a client carries for us: sealed with the tenant's keys, so that any worker opens what another made. */
export interface Seals {
  /** `purpose` keeps boxes of one kind from being taken for another. Undefined while there are no keys. */
  seal(purpose: string, plain: string): string | undefined
  /** Undefined for what is not a box of this purpose. */
  open(purpose: string, sealed: string): string | undefined
}

/** Someone who has a call that lasts. */
export interface Follower {
  /** The policy to decide on from now; also told from time to time, since a decision may depend on the time. */
  changed(index: PolicyIndex, circumstances: Circumstances): void
  /** Once: the caller may not go on, for a reason such as a token that expired. */
  ended(fault: Fault): void
}

/** Whether who made a call would still be let in, for calls that last longer than a moment. */
export interface Standing {
  /** Gives what ends the following. */
  follow(call: McpCall, on: Follower): () => void
}

/** Log level that a legacy session asked for by logging/setLevel. */
export interface SessionLevels {
  get(session: Session): string | undefined
  set(session: Session, level: string): void
}

export interface CoreDeps {
  readonly config: ConfigOf['proxy']
  readonly credentials: Credentials
  readonly recorder: Recorder
  /** Told of each connection to a server. */
  readonly addresses?: ServerAddresses
  readonly sessions: {
    seal(
      principal: Principal,
      protocolVersion: string,
      capabilities: JsonObject,
      clientInfo?: JsonObject,
    ): Session
  }
  readonly log: Logger
  readonly clock: Clock
  /** Absent: who was let in stays so. */
  readonly standing?: Standing
  /** 0 ≤ random() < 1, for waits between attempts; Math.random unless told. */
  readonly random?: () => number
  /** Absent: boxes are sealed with a key of this process and open nowhere else. */
  readonly seals?: Seals
  readonly sessionLevels?: SessionLevels
  /** Absent: what is known of a session is this worker's alone. */
  readonly sessionNotes?: SessionNotes
  /** Absent: this is the only worker. */
  readonly peers?: Peers
  /** How many calls may wait for answers of modern clients, and how long; usual limits unless told. */
  readonly parkedLimits?: Partial<ParkedLimits>
  /** Absent: what is counted goes nowhere. */
  readonly measures?: Measures
}

/** Why a call, at a server where it is at one, may not go on; undefined where it may. */
export type Objection = (
  call: Pick<McpCall, 'principal'> & Partial<Pick<McpCall, 'circumstances'>>,
  serverId: string | undefined,
) => Fault | undefined

/** Who ends a session, and what is kept of it at servers, by their ids. */
export interface Ending extends Pick<McpCall, 'principal' | 'index' | 'circumstances'> {
  readonly upstreams: ReadonlyMap<string, KeptUpstream>
}

export interface McpCore {
  /** For what reaches another worker and is held here. */
  readonly local: LocalCalls
  /** Answers through `call.reply`; resolves with how. Throws a Fault only before anything was answered. */
  handle(call: McpCall): Promise<Outcome>
  /** DELETE: ends the upstream sessions that belong to this one, those that other processes opened too. */
  endSession(session: Session, ending?: Ending): Promise<void>
  /** Another policy is in force: ends every call and stream that `objection` has something against. */
  recheck(objection: Objection): void
  /** The credential of a person for a server, or for all of them, is another one from now on. */
  credentialChanged(issuer: string, subject: string, serverId?: string): void
  /** Resolves when no call is running, or at the deadline, with the number left. Streams that last are ended first. */
  drain(deadlineMs: number): Promise<number>
  close(): Promise<void>
  stats(): Record<string, number>
}
