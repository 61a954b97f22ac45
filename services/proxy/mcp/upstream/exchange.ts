import { Fault } from '../../../../shared/faults.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { asMessage, isObject, isResponse } from '../protocol/jsonrpc.ts'
import type { JsonRpcMessage, JsonRpcResponse, RequestId } from '../protocol/types.ts'
import type { UpstreamBody } from './body.ts'
import type { UpstreamHttp, UpstreamResponse } from './http.ts'
import { readEvents } from './sse.ts'

export interface Exchanged {
  status: number
  headers: UpstreamResponse['headers']
  /** Present where the server answered the request, over JSON or a stream. */
  response?: JsonRpcResponse
  /** A JSON-RPC error in the body of a non-2xx answer: how modern servers say what was wrong. */
  refusal?: JsonRpcResponse
}

export interface ExchangeOptions {
  headers: Record<string, string>
  message: JsonRpcMessage
  signal: AbortSignal
  /** Bytes of a JSON body, and of one event of a stream. */
  limit: number
  /** Notifications and requests that arrive on the stream before the answer. */
  onMessage?(message: JsonRpcMessage): void | Promise<void>
}

/** How long a server may keep its stream open after the answer before the connection is given up. */
const lingerMs = 1_000

/**
 * One POST of one message, and what comes back, whichever form the server chose (streamable HTTP, all versions).
 * Throws `upstream.garbage` where a 2xx answer holds no answer to the request.
 */
export async function exchange(
  http: UpstreamHttp,
  server: ServerWorkload,
  options: ExchangeOptions,
): Promise<Exchanged> {
  const { message, signal, limit } = options
  const { status, headers, body } = await http.send(server, {
    method: 'POST',
    headers: options.headers,
    body: JSON.stringify(message),
    signal,
  })
  const type = String(headers['content-type'] ?? '')
  if (status < 200 || status > 299) {
    const text = await body.text(65_536).catch(() => '')
    const refusal = type.includes('json') ? parse(text) : undefined
    return { status, headers, ...(refusal && isResponse(refusal) ? { refusal } : {}) }
  }
  if (!('id' in message) || !('method' in message)) {
    body.dump()
    return { status, headers }
  }
  const response = type.startsWith('text/event-stream')
    ? await answerInStream(body, message.id, limit, options.onMessage)
    : answerInJson(await body.text(limit), message.id)
  return { status, headers, response }
}

function answerInJson(text: string, id: RequestId): JsonRpcResponse {
  const message = parse(text)
  // Some servers answer an error without an id; it can be meant for no other request.
  if (message && isResponse(message) && (message.id === id || (message.id === null && message.error)))
    return message
  throw new Fault('upstream.garbage', { detail: 'the JSON body is not the answer to the request' })
}

async function answerInStream(
  body: UpstreamBody,
  id: RequestId,
  limit: number,
  onMessage: ExchangeOptions['onMessage'],
): Promise<JsonRpcResponse> {
  const events = readEvents(body, limit)
  for (;;) {
    const next = await events.next()
    if (next.done) throw new Fault('upstream.garbage', { detail: 'the stream ended without an answer' })
    if (next.value === '') continue
    const message = parse(next.value)
    if (!message) throw new Fault('upstream.garbage', { detail: 'an event of the stream is not JSON-RPC' })
    if (isResponse(message)) {
      if (message.id !== id) continue
      letEnd(events, body)
      return message
    }
    await onMessage?.(message)
  }
}

/** Reads to the end so that the connection can be used again, but not for long. */
function letEnd(events: AsyncGenerator<string>, body: UpstreamBody): void {
  const timer = setTimeout(() => body.destroy(), lingerMs)
  timer.unref()
  void (async () => {
    try {
      while (!(await events.next()).done);
    } catch {
      // The answer is already there; how the connection ends does not matter.
    } finally {
      clearTimeout(timer)
    }
  })()
}

function parse(text: string): JsonRpcMessage | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? asMessage(value) : undefined
  } catch {
    return undefined
  }
}
