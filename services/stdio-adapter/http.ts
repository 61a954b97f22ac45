import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Logger } from '../../shared/log.ts'
import { type Owner, type Pool, Unavailable } from './pool.ts'
import { type Message, ProcessGone, type ServerProcess } from './server-process.ts'

export interface HttpOptions {
  readonly pools: () => ReadonlyMap<string, Pool>
  readonly maxMessageBytes: number
  readonly log: Logger
}

/**
 * The proxy's side: streamable HTTP (MCP 2025-11-25, transports) over a unix socket, `/<name>` per server. Whatever a
 * server does not take to be a session's is passed on as it is, so that both eras work.
 */
export function createHandler({ pools, maxMessageBytes, log }: HttpOptions): RequestListener {
  return (request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (error instanceof Unavailable) {
        log.warn({ path: request.url, reason: error.message }, 'no process for a request')
        refuse(response, 503, error.message)
      } else if (error instanceof ProcessGone) {
        refuse(response, 502, `The server ${error.message}.`)
      } else {
        log.error({ err: error, path: request.url }, 'a request failed')
        refuse(response, 500, 'Internal error.')
      }
    })
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pool = pools().get(decodeURIComponent((request.url ?? '/').slice(1)))
    if (!pool) return refuse(response, 421, 'No local server has this name here.')
    const { headers, method } = request
    const owner = ownerOf(headers, pool)
    const given = headers['mcp-session-id']
    const session = typeof given === 'string' ? given : undefined
    const held = session === undefined ? undefined : pool.find(owner, session)
    if (session !== undefined && !held) return refuse(response, 404, 'Session not found.')
    if (method === 'DELETE') {
      if (session !== undefined) pool.end(session)
      response.writeHead(204).end()
      return
    }
    if (method === 'GET') {
      if (!held) return refuse(response, 405, 'A stream belongs to a session.')
      return listen(held, response)
    }
    if (method !== 'POST') return refuse(response, 405, 'GET, POST and DELETE are answered here.')
    const message = await readMessage(request, maxMessageBytes)
    if (!message) return refuse(response, 400, 'This is no JSON-RPC message.')
    const gone = whenGone(response)
    if (message.method === 'initialize' && message.id !== undefined) {
      return pool.open(owner, gone, (process, opened) =>
        ask(process, message, response, gone, { 'mcp-session-id': opened }),
      )
    }
    const deliver = async (process: ServerProcess): Promise<void> => {
      if (message.method !== undefined && message.id !== undefined)
        return ask(process, message, response, gone)
      process.tell(message)
      response.writeHead(202).end()
    }
    return held ? deliver(held) : pool.shared(owner, gone, deliver)
  }
}

/** Aborted where the caller leaves before its answer. */
function whenGone(response: ServerResponse): AbortSignal {
  const gone = new AbortController()
  response.on('close', () => {
    if (!response.writableFinished) gone.abort()
  })
  return gone.signal
}

/** JSON where the answer is the first thing that comes, else a stream. */
async function ask(
  process: ServerProcess,
  message: Message,
  response: ServerResponse,
  gone: AbortSignal,
  headers: Record<string, string> = {},
): Promise<void> {
  const listener = {
    onMessage: (notice: Message) => {
      if (!response.headersSent) openStream(response, headers)
      return send(response, notice)
    },
  }
  try {
    const answer = await process.request(message, listener, gone)
    if (response.headersSent) {
      response.end(event(answer))
      return
    }
    response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(answer))
  } catch (error) {
    // A stream that ends without its answer says it all.
    if (response.headersSent) response.end()
    else throw error
  }
}

/**
 * What the server says outside of requests, to one reader. A process that rests says nothing and its stream stays: were it
 * to end, the reader would have the process started again only to listen, and that would push the next one out.
 */
function listen(process: ServerProcess, response: ServerResponse): void {
  openStream(response)
  const listener = { onMessage: (notice: Message) => send(response, notice) }
  process.audience.add(listener)
  response.on('close', () => process.audience.delete(listener))
  void process.exited.then(() => {
    if (!process.resting) response.end()
  })
}

const event = (message: Message): string => `event: message\ndata: ${JSON.stringify(message)}\n\n`

function openStream(response: ServerResponse, headers: Record<string, string> = {}): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', ...headers })
  response.flushHeaders()
}

/** Resolves when the reader has room again, where it has none now. */
function send(response: ServerResponse, message: Message): void | Promise<void> {
  if (response.destroyed || response.write(event(message))) return
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done)
      resolve()
    }
    response.on('drain', done).on('close', done)
  })
}

/** Plain text, no JSON-RPC: it is the adapter that says no, not the server. */
function refuse(response: ServerResponse, status: number, why: string): void {
  if (response.headersSent) response.end()
  else response.writeHead(status, { 'content-type': 'text/plain' }).end(why)
}

/** Written by proxy: who the person is, as a digest, and their credential as for any server. */
function ownerOf(headers: IncomingMessage['headers'], { server }: Pool): Owner {
  const party = headers['aembit-party']
  const name = server.credential?.header
  const value = name === undefined ? undefined : headers[name]
  const text = typeof value === 'string' ? value : undefined
  return {
    party: typeof party === 'string' ? party : '',
    credential: name === 'authorization' ? text?.replace(/^\S+\s+/, '') : text,
  }
}

async function readMessage(request: IncomingMessage, maxBytes: number): Promise<Message | undefined> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBytes) return undefined
    chunks.push(chunk)
  }
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString())
    const object = typeof value === 'object' && value !== null && !Array.isArray(value)
    return object ? (value as Message) : undefined
  } catch {
    return undefined
  }
}
