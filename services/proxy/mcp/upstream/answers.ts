import { Fault } from '../../../../shared/faults.ts'
import type { JsonRpcResponse } from '../protocol/types.ts'
import type { Exchanged } from './exchange.ts'

/** To a question that nobody declared to take. */
export const unsupported = async () => ({
  error: { code: -32601, message: 'The client of this gateway did not declare this capability.' },
})

/** 404 by the specification; servers on the first SDK say 400 to an id they do not know. */
export function isSessionGone({ status, refusal }: Exchanged): boolean {
  if (status === 404) return true
  if (status !== 400) return false
  const error = refusal?.error
  return error === undefined || error.code === -32000 || /session/i.test(error.message)
}

/** Errors that only a modern server sends (MCP 2026-07-28, error codes), and the usual ones of JSON-RPC to our request. */
export const isModernError = ({ error }: JsonRpcResponse): boolean =>
  error !== undefined &&
  ((error.code <= -32020 && error.code >= -32022) || error.code === -32601 || error.code === -32602)

/** An answer that holds no JSON-RPC message, as a Fault. */
export function unanswered({ status }: Exchanged): Fault {
  if (status >= 200 && status < 300)
    return new Fault('upstream.garbage', { detail: `HTTP ${status} without an answer` })
  return new Fault('upstream.rejected', { detail: `HTTP ${status}`, data: { status } })
}
