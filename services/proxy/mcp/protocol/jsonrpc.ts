import type { Fault } from '../../../../shared/faults.ts'
import type {
  Era,
  JsonObject,
  JsonRpcError,
  JsonRpcMessage,
  JsonRpcNotification,
  JsonRpcRequest,
  JsonRpcResponse,
} from './types.ts'

export const isRequest = (message: JsonRpcMessage): message is JsonRpcRequest =>
  'method' in message && 'id' in message
export const isNotification = (message: JsonRpcMessage): message is JsonRpcNotification =>
  'method' in message && !('id' in message)
export const isResponse = (message: JsonRpcMessage): message is JsonRpcResponse => !('method' in message)

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A message that came from a server, or undefined where it is not JSON-RPC 2.0. */
export function asMessage(value: unknown): JsonRpcMessage | undefined {
  if (!isObject(value) || value.jsonrpc !== '2.0') return undefined
  if (typeof value.method === 'string') return value as unknown as JsonRpcMessage
  if ('id' in value && (isObject(value.result) || isObject(value.error)))
    return value as unknown as JsonRpcMessage
  return undefined
}

/** Whether a text that was parsed is a batch, of however many messages. */
export const isBatch = (text: string): boolean => text.trimStart().startsWith('[')

/** Members of a batch at most. */
export const maxBatch = 64

/** What a server wrote as a message, or undefined where it is none. */
export function parseMessage(text: string): JsonRpcMessage | undefined {
  const parsed = parseMessages(text)
  return parsed?.length === 1 ? parsed[0] : undefined
}

/** One message, or several where the server wrote a batch (MCP 2025-03-26); undefined where one of them is none. */
export function parseMessages(text: string): readonly JsonRpcMessage[] | undefined {
  try {
    const value: unknown = JSON.parse(text)
    const members = Array.isArray(value) ? value : [value]
    if (members.length === 0 || members.length > maxBatch) return undefined
    const messages = members.map(asMessage)
    return messages.every((message) => message !== undefined) ? messages : undefined
  } catch {
    return undefined
  }
}

/** The JSON-RPC error of a Fault. A modern peer never sees -32002 (MCP 2026-07-28, error codes). */
export function faultError(fault: Fault, era: Era): JsonRpcError {
  const code = fault.spec.rpc ?? -32603
  return {
    code: code === -32002 && era === 'modern' ? -32602 : code,
    message: fault.message,
    data: { reason: fault.code, retry: fault.spec.retry, ...fault.data },
  }
}
