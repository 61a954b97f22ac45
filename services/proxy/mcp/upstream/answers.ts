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

/** HeaderMismatch (MCP 2026-07-28, error codes). */
export const headerMismatch = -32020

/** Codes that only a modern server sends: header mismatch, missing capability, version (MCP 2026-07-28). */
export const isModernCode = (code: number): boolean => code <= -32020 && code >= -32022

/** Those, and the usual refusals of JSON-RPC: what a modern server may say to a request of its era. */
export const isModernError = ({ error }: JsonRpcResponse): boolean =>
  error !== undefined && (isModernCode(error.code) || error.code === -32601 || error.code === -32602)

/** An answer that holds no JSON-RPC message, as a Fault. */
export function unanswered({ status }: Exchanged): Fault {
  if (status >= 200 && status < 300)
    return new Fault('upstream.garbage', { detail: `HTTP ${status} without an answer` })
  // What stands before the server says that the server is away.
  if (status === 502 || status === 503 || status === 504)
    return new Fault('upstream.unreachable', { detail: `HTTP ${status}`, data: { status } })
  return new Fault('upstream.rejected', { detail: `HTTP ${status}`, data: { status } })
}
