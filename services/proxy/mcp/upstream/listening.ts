import type { Clock } from '../../../../shared/clock.ts'
import { Fault } from '../../../../shared/faults.ts'
import type { SseEvent } from '../../../../shared/sse.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import {
  type ChangeFilter,
  fromSubscriptionFilter,
  isEmpty,
  listChanges,
  noChanges,
  offered,
  toSubscriptionFilter,
} from '../protocol/changes.ts'
import { isRequest, isResponse, parseMessages } from '../protocol/jsonrpc.ts'
import type {
  JsonObject,
  JsonRpcError,
  JsonRpcMessage,
  JsonRpcNotification,
  JsonRpcRequest,
} from '../protocol/types.ts'
import { Stop, within } from '../stop.ts'
import { isModernCode, unanswered, unsupported } from './answers.ts'
import type { Verdict } from './eras.ts'
import { openEventStream } from './event-stream.ts'
import { exchange } from './exchange.ts'
import type { Headers, UpstreamHttp } from './http.ts'
import type { LegacySession } from './legacy-session.ts'
import { type modernMessage, type Party, refuseUnauthorized, Unauthorized } from './request.ts'

/** A server is asked to tell what changes, for as long as `stop` is not stopped. */
export interface ListenRequest {
  server: ServerWorkload
  party: Party
  filter: ChangeFilter
  stop: Stop
  /** From now on the server tells. */
  onOpen(open: Listening): void
  onNotification(message: JsonRpcNotification): void
  /** A legacy server asks outside of any call. */
  onRequest(message: JsonRpcRequest): Promise<{ result: JsonObject } | { error: JsonRpcError }>
}

/** `honoured`: what a modern server agreed to; null for a legacy one, where each resource is asked for by itself. */
export interface Listening {
  readonly honoured: ChangeFilter | null
  /** The legacy session that the stream belongs to. */
  readonly session?: LegacySession
}

/** `none`: the server has no such stream, or (`busy`) another process has it. `ended`: it had one and ended it. */
export type ListenEnd = 'ended' | { readonly none: Listening; readonly busy?: boolean }

export interface ListeningDeps {
  http: UpstreamHttp
  /** Characters of one event. */
  limit: number
  clock: Clock
  nextId(): number
  message(
    request: Pick<ListenRequest, 'server' | 'party'> & { params: JsonObject },
    credential: Headers,
    id: number,
  ): ReturnType<typeof modernMessage>
  session(party: Party, server: ServerWorkload, credential: Headers): Promise<LegacySession>
  /** Any request in the session; opens another where the server forgot it. */
  ping(server: ServerWorkload, party: Party, stop: Stop): Promise<unknown>
  tell(session: LegacySession, headers: Headers, message: JsonRpcMessage): Promise<void>
}

/** A modern server acknowledges within this. */
const acknowledgeMs = 10_000
const headerMs = 250
/** A server allows one stream a session and may notice late that the former one is gone. */
const busyMs = 100
const maxBusyTurns = 10
const maxSessionTurns = 2

/**
 * The stream of what a server tells outside of calls: `subscriptions/listen` (MCP 2026-07-28) of a modern server, GET
 * (streamable HTTP up to 2025-11-25) of a legacy one. Rejects with the stop's reason, `upstream.*`, Unauthorized, and
 * NotLegacy where the server fits the other era.
 */
export function createListening(deps: ListeningDeps) {
  const { http, limit, nextId } = deps

  async function modern(request: ListenRequest, credential: Headers, verdict: Verdict): Promise<ListenEnd> {
    const { server, filter, onOpen, onNotification } = request
    const wanted = offered(verdict.capabilities, filter)
    if (isEmpty(wanted)) return { none: { honoured: noChanges } }
    const id = nextId()
    const params = { notifications: toSubscriptionFilter(wanted) }
    const { headers, message } = deps.message({ ...request, params }, credential, id)
    const stop = follow(request.stop).limit(acknowledgeMs, 'subscriptions/listen')
    let open = false
    try {
      const exchanged = refuseUnauthorized(
        await exchange(http, server, {
          headers,
          message,
          stop,
          limit,
          lasting: true,
          onMessage: (said) => {
            if (!('method' in said) || 'id' in said) return
            if (said.method === 'notifications/subscriptions/acknowledged') {
              if (open) return
              open = true
              stop.hold()
              onOpen({ honoured: fromSubscriptionFilter(said.params?.notifications) })
            } else if (said.method === 'notifications/cancelled') {
              stop.stop(new Fault('upstream.unreachable', { detail: 'the server ended the subscription' }))
            } else if (open) onNotification(said)
          },
        }),
      )
      const response = exchanged.response ?? exchanged.refusal
      if (open) return 'ended'
      if (response?.error?.code === -32601) return { none: { honoured: noChanges } }
      if (response?.error && !isModernCode(response.error.code)) {
        throw new Fault('upstream.rejected', { detail: `subscriptions/listen: error ${response.error.code}` })
      }
      throw unanswered(exchanged)
    } finally {
      stop.end()
    }
  }

  async function legacy(request: ListenRequest, credential: Headers): Promise<ListenEnd> {
    const { server, party, stop } = request
    let turns = 0
    let busy = 0
    for (;;) {
      const session = await within(deps.session(party, server, credential), stop)
      const none = { none: { honoured: null, session } }
      if (!speaks(session, party)) return none
      const status = await (session.listen ? onSse(request, session) : onGet(request, session, credential))
      if (status === 200) return 'ended'
      if (status === 401) throw new Unauthorized()
      if (status === 409 && ++busy < maxBusyTurns) {
        await within(deps.clock.sleep(busyMs), stop)
        continue
      }
      if (status === 409) return { ...none, busy: true }
      if (status === 429 || status > 499) throw unanswered({ status, headers: {} })
      // 404 and 400 mean a session that is gone, or a server that has no GET at all: another request tells them apart.
      if (session.id === undefined || (status !== 404 && status !== 400) || turns++ >= maxSessionTurns)
        return none
      await deps.ping(server, party, stop)
      if ((await within(deps.session(party, server, credential), stop)) === session) return none
    }
  }

  /** The GET stream of streamable HTTP, until it ends; gives its status. */
  function onGet(request: ListenRequest, session: LegacySession, credential: Headers): Promise<number> {
    const { server, stop, onOpen, onNotification, onRequest } = request
    const { 'content-type': _none, ...headers } = session.headers(credential)
    let open = false
    const opened = (): void => {
      if (open || stop.reason) return
      open = true
      onOpen({ honoured: null, session })
    }
    const heard = ({ event, data }: SseEvent): void => {
      for (const message of event === 'message' ? (parseMessages(data) ?? []) : []) take(message)
    }
    const take = (message: JsonRpcMessage): void => {
      if (isResponse(message)) return
      if (!isRequest(message)) {
        onNotification(message)
        return
      }
      const answering = message.method === 'ping' ? Promise.resolve({ result: {} }) : onRequest(message)
      void answering
        .catch(unsupported)
        .then((answer) =>
          deps.tell(session, session.headers(credential), { jsonrpc: '2.0', id: message.id, ...answer }),
        )
    }
    return new Promise((resolve, reject) => {
      // Some servers send no header before their first event; what they tell is awaited all the same.
      const patience = setTimeout(opened, headerMs)
      patience.unref()
      const stream = openEventStream(http, server, {
        headers,
        limit,
        onOpen: opened,
        onEvent: heard,
        onEnd: ({ status, fault }) => {
          clearTimeout(patience)
          if (stop.reason ?? fault) reject(stop.reason ?? fault)
          else resolve(status)
        },
      })
      stop.on(() => stream.close())
    })
  }

  /** The one stream of an HTTP+SSE session, which is open already. */
  function onSse(
    { stop, onOpen, onNotification, onRequest }: ListenRequest,
    session: LegacySession,
  ): Promise<number> {
    return new Promise((resolve, reject) => {
      session.listen?.({ heard: onNotification, asked: onRequest, ended: () => resolve(200) })
      stop.on((reason) => {
        session.listen?.(undefined)
        reject(reason)
      })
      onOpen({ honoured: null, session })
    })
  }

  return (request: ListenRequest, credential: Headers, verdict: Verdict): Promise<ListenEnd> =>
    verdict.era === 'modern' ? modern(request, credential, verdict) : legacy(request, credential)
}

/** Whether anything can come on the stream of a session: changes, or for a live client questions and logs. */
function speaks({ capabilities }: LegacySession, { live, capabilities: own }: Party): boolean {
  if (live && (capabilities.logging !== undefined || Object.keys(own).length > 0)) return true
  return !isEmpty(offered(capabilities, { ...noChanges, lists: new Set(listChanges), uris: new Set(['']) }))
}

/** A stop of its own that ends with another one. */
function follow(other: Stop): Stop {
  const own = new Stop()
  const pass = (reason: Error): void => own.stop(reason)
  other.on(pass)
  return own
}
