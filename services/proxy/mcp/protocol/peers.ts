import type { ListChange } from './changes.ts'
import type {
  Era,
  JsonObject,
  JsonRpcNotification,
  JsonRpcRequest,
  JsonRpcResponse,
  RequestId,
} from './types.ts'

/** The answer of a server to one request. */
export interface UpstreamAnswer {
  era: Era
  response: JsonRpcResponse
  /** The `requestState` in it is ours already. */
  parked?: boolean
  /** The whole message as the server wrote it, with our id in it; only of a 2xx answer. */
  text?: string
}

/** When and why work is given up. */
export interface Stopping {
  readonly reason: Error | undefined
  /** Calls at once where the work is given up already. */
  on(listener: (reason: Error) => void): void
  off(listener: (reason: Error) => void): void
}

/** Who waits for a call right now: where its notifications go, and when it is given up. */
export interface Waiter {
  readonly stop: Stopping
  notify(message: JsonRpcNotification): void | Promise<void>
}

/** How one round ends: with the server's answer, or with what it wants to know first. */
export type Turn =
  | { readonly answer: UpstreamAnswer }
  | { readonly id: string; readonly round: number; readonly inputRequests: JsonObject }

export interface ResumeRequest {
  readonly id: string
  readonly round: number
  readonly principalKey: string
  readonly serverId: string
  readonly inputResponses: JsonObject
}

/** A server's list changed: what any worker holds of it is old. */
export interface ListNotice {
  readonly list: ListChange
  readonly server: { readonly id: string; readonly url: string }
}

/** For a client's session, whichever worker it asks next: what it is to be told, or what it watches no more. */
export type SessionNotice =
  | { readonly owner: string; readonly message: JsonRpcNotification }
  | { readonly owner: string; readonly unwatched: string }
  /** It watches a resource at the server of this id, by whatever process. */
  | { readonly owner: string; readonly watched: string; readonly server: string }
  /** A question that waits for the session's next request, and the id of one that does not any more. */
  | { readonly owner: string; readonly held: JsonRpcRequest }
  | { readonly owner: string; readonly asked: string }

/** A client's roots are other ones: who has sessions at legacy servers for it tells them. */
export interface RootsNotice {
  readonly owner: string
  readonly rootsChanged: true
}

export type PeerNotice = ListNotice | SessionNotice | RootsNotice

/** The other workers of this gateway, for what a client sends to us and they hold. */
export interface Peers {
  /** What this worker is called by the others, in ids that clients carry. */
  readonly self: string
  /** Throws `question.expired`, and `question.lost` where that worker is gone. */
  resume(holder: string, request: ResumeRequest, waiter: Waiter): Promise<Turn>
  /** A client's answer to a question that `holder` asked on one of its streams. */
  answer(holder: string, owner: string, message: JsonRpcResponse): void
  cancel(owner: string, requestId: RequestId): void
  /** Tells all; lost where a worker does not take it in time. */
  notice(notice: PeerNotice): void
}

/** What other workers may ask of this one's calls. `owner`: a session id, or the person for clients without one. */
export interface LocalCalls {
  resume(request: ResumeRequest, waiter: Waiter): Promise<Turn>
  answer(owner: string, message: JsonRpcResponse): void
  cancel(owner: string, requestId: RequestId): void
  noticed(notice: PeerNotice): void
  /** Ends what belongs to a client's session here. */
  endSession(id: string): Promise<void>
}
