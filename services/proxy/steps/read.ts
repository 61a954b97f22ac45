import { Fault } from '../../../shared/faults.ts'
import { type BodyLimits, readBody } from '../body.ts'
import { parseJson } from '../json.ts'
import { isObject, isRequest, maxBatch } from '../mcp/protocol/jsonrpc.ts'
import type { JsonRpcMessage } from '../mcp/protocol/types.ts'
import type { Run } from '../pipeline.ts'

export interface ReadDeps {
  readonly body: BodyLimits & { readonly depth: number }
}

/** Is the body one JSON-RPC 2.0 message, or a batch of some? Which versions know batches is seen later. */
export function read({ body: limits }: ReadDeps): Run {
  return (x) => {
    const { headers } = x.req
    if (!isJson(headers['content-type'])) throw new Fault('http.content_type')
    if (!acceptsBoth(headers.accept)) throw new Fault('http.accept')
    return readBody(x.req, x.res, limits).then((bytes) => {
      const value = parseJson(bytes, limits.depth)
      if (Array.isArray(value)) x.batch = toBatch(value)
      else x.message = toMessage(value)
    })
  }
}

function isJson(contentType: string | undefined): boolean {
  if (contentType === 'application/json') return true
  return contentType !== undefined && /^application\/json\s*(;\s*charset="?utf-8"?\s*)?$/i.test(contentType)
}

/** Streamable HTTP clients must take both kinds of answer; absent means anything (RFC 9110 §12.5.1). */
function acceptsBoth(accept: string | undefined): boolean {
  if (accept === undefined) return true
  const value = accept.toLowerCase()
  if (value.includes('*/*')) return true
  return /application\/(json|\*)/.test(value) && /text\/(event-stream|\*)/.test(value)
}

/** JSON-RPC 2.0, section 6; `initialize` is in no batch (MCP 2025-03-26, lifecycle). */
function toBatch(values: readonly unknown[]): readonly JsonRpcMessage[] {
  if (values.length === 0) throw new Fault('rpc.invalid', { detail: 'an empty batch' })
  if (values.length > maxBatch)
    throw new Fault('rpc.batch', { detail: `${values.length} messages, ${maxBatch} at most` })
  const messages = values.map(toMessage)
  const requests = messages.filter(isRequest)
  if (requests.some(({ method }) => method === 'initialize'))
    throw new Fault('rpc.invalid', { detail: 'initialize in a batch' })
  if (new Set(requests.map(({ id }) => id)).size < requests.length)
    throw new Fault('rpc.invalid', { detail: 'two requests of one id' })
  return messages
}

function toMessage(value: unknown): JsonRpcMessage {
  if (!isObject(value) || value.jsonrpc !== '2.0') throw new Fault('rpc.invalid')
  if (typeof value.method === 'string') {
    if (value.method.length > 200) throw new Fault('rpc.invalid', { detail: 'method name too long' })
    if (Object.hasOwn(value, 'id') && !isId(value.id)) throw new Fault('rpc.invalid', { detail: 'id' })
    if (value.params !== undefined && !isObject(value.params))
      throw new Fault('rpc.invalid', { detail: 'params' })
  } else {
    const answers = Number(isObject(value.result)) + Number(isObject(value.error))
    if (value.method !== undefined || answers !== 1 || !isId(value.id)) throw new Fault('rpc.invalid')
  }
  return value as unknown as JsonRpcMessage
}

/** MCP: a string or an integer, never null. */
function isId(id: unknown): boolean {
  return (typeof id === 'string' && id.length <= 1024) || Number.isSafeInteger(id)
}
