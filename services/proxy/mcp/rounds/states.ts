import { hash } from 'node:crypto'
import type { Clock } from '../../../../shared/clock.ts'
import { Fault } from '../../../../shared/faults.ts'
import { isConnectState } from '../connect.ts'
import type { RequestCall } from '../flight.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import type { JsonObject, Seals } from '../protocol/types.ts'
import { canAnswer } from './live.ts'

/** A client has this long to answer what a modern server asked. */
const stateLifeMs = 60 * 60_000
const purpose = 'mcp-request-state/2'
/** Boxes come back in a body and are bounded there. */
const maxStateChars = 32_768

/** A call at a legacy server that waits for answers: the worker that holds it, its name there, how often it asked. */
export interface ParkedRef {
  readonly holder: string
  readonly id: string
  readonly round: number
}

/** What the box of a `requestState` holds for us: a modern server's own state, or a parked call. */
export type Inner = { readonly state: string } | { readonly parked: ParkedRef }

export interface Opened {
  /** Parameters for the server: its own state out of the box, nothing of ours. */
  readonly params: JsonObject
  /** The call to go on with; `params` then hold the client's answers alone. */
  readonly parked?: ParkedRef
}

export interface RequestStates {
  /** A server's `input_required` as the modern client gets it: its state in a box that only this request opens. */
  wrap(call: RequestCall, serverId: string, result: JsonObject, principalKey: string): JsonObject
  seal(call: RequestCall, serverId: string, principalKey: string, inner: Inner): string
  /** The server that a retry goes back to, where its state says so. */
  serverOf(params: JsonObject, principalKey: string): string | undefined
  /** Throws `rpc.params` for a state that is not of this person, server and request, or too old. */
  unwrap(call: RequestCall, serverId: string, params: JsonObject, principalKey: string): Opened
}

/**
 * `requestState` comes back through the client, who may change it, keep it or give it to someone else. So it is sealed
 * with the person, the server, the request and an end; policy is asked anew on each retry.
 */
export function createRequestStates(seals: Seals, clock: Clock): RequestStates {
  /** The request as the client wrote it. */
  const digest = ({ message: { method, params } }: RequestCall): string =>
    hash('sha256', JSON.stringify([method, params?.name ?? params?.uri, params?.arguments]), 'base64url')

  const open = (
    state: unknown,
    principalKey: string,
  ): [server: string, request: string, inner: Inner] | undefined => {
    const plain = typeof state === 'string' ? seals.open(purpose, state) : undefined
    if (plain === undefined) return undefined
    // Authenticated by the box, so the shape is the one that `seal` wrote.
    const [person, server, request, end, inner] = JSON.parse(plain)
    return person === principalKey && end > clock.now() ? [server, request, inner] : undefined
  }

  const seal: RequestStates['seal'] = (call, serverId, principalKey, inner) => {
    const plain = [principalKey, serverId, digest(call), clock.now() + stateLifeMs, inner]
    const sealed = seals.seal(purpose, JSON.stringify(plain))
    if (sealed === undefined) throw new Fault('session.keys_missing')
    return sealed
  }

  return {
    seal,
    wrap(call, serverId, result, principalKey) {
      const { inputRequests, requestState } = result
      for (const question of Object.values(isObject(inputRequests) ? inputRequests : {})) {
        if (!isObject(question)) continue
        const { method, params } = question
        if (!canAnswer(call, { method: String(method), ...(isObject(params) ? { params } : {}) })) {
          throw new Fault('upstream.rejected', {
            detail: `the server asks for ${method}, which is not declared`,
          })
        }
      }
      if (typeof requestState !== 'string') return result
      if (requestState.length > maxStateChars)
        throw new Fault('upstream.too_large', { detail: 'requestState' })
      return { ...result, requestState: seal(call, serverId, principalKey, { state: requestState }) }
    },
    serverOf: ({ requestState }, principalKey) => open(requestState, principalKey)?.[0],
    unwrap(call, serverId, params, principalKey) {
      const { requestState, ...rest } = params
      if (requestState === undefined || call.era === 'legacy') return { params }
      if (isConnectState(requestState)) {
        const { inputResponses: _ours, ...without } = rest
        return { params: without }
      }
      const found = open(requestState, principalKey)
      if (!found || found[0] !== serverId || found[1] !== digest(call)) {
        throw new Fault('rpc.params', {
          data: { field: 'requestState' },
          detail: 'not a state of this request',
        })
      }
      const inner = found[2]
      return 'parked' in inner
        ? { params: rest, parked: inner.parked }
        : { params: { ...rest, requestState: inner.state } }
    },
  }
}
