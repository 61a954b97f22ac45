import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import fastify, { type FastifyReply, type FastifyRequest } from 'fastify'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { Ingress } from './ingress.ts'
import { metadataPaths } from './metadata.ts'
import { refuseProblem } from './refuse-problem.ts'

type Handler = (req: IncomingMessage, res: ServerResponse) => void

export interface Handlers {
  /** POST, DELETE and what is refused with 405 on the MCP path. */
  readonly mcp: Handler
  /** OPTIONS on the MCP path: CORS preflight. */
  readonly preflight: Handler
  readonly metadata: Handler
  /** Every other path. */
  readonly passthrough: Handler
}

/** RFC 6797 §6.1: a year. */
const hsts = 'max-age=31536000'
/** How long one that did not speak HTTP may take to close its side; half open, it would stay for good. */
const lingerMs = 5_000
const noQuery = Object.freeze({})

/**
 * Fastify routes over both HTTP servers of the ingress. It gets nothing but the routing: each handler takes the raw
 * request in `onRequest` and answers on the raw response, because a body may only be read after authentication, and
 * because parsing, validation and per-request logging are costs without a use here.
 */
export async function createHttp(
  handlers: Handlers,
  { mcpPath, origin }: { mcpPath: string; origin: string },
  log: Logger,
): Promise<Ingress> {
  let ingress: Ingress | undefined
  const app = fastify({
    logger: false,
    exposeHeadRoutes: false,
    routerOptions: { ignoreTrailingSlash: true, querystringParser: () => noQuery },
    frameworkErrors: (_error, request, reply) => {
      reply.hijack()
      refuseProblem(request.raw, reply.raw, new Fault('http.malformed'))
    },
    clientErrorHandler: (error, socket) => {
      log.debug({ err: error }, 'not HTTP')
      if (socket.writable && !socket.destroyed) {
        const status =
          error.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : badRequest(error)
        socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
        setTimeout(() => socket.destroy(), lingerMs).unref()
      }
    },
    serverFactory: (listener) => {
      ingress = new Ingress(listener as RequestListener, { log })
      return ingress.http1
    },
  })

  // For browsers; agents on the MCP path do not read it.
  const secured = (handler: Handler): Handler =>
    origin.startsWith('https:')
      ? (req, res) => {
          res.setHeader('strict-transport-security', hsts)
          handler(req, res)
        }
      : handler
  const raw = (handler: Handler) => ({
    onRequest: (request: FastifyRequest, reply: FastifyReply) => {
      reply.hijack()
      handler(request.raw, reply.raw)
    },
    handler: unreachable,
  })
  app.route({ method: 'OPTIONS', url: mcpPath, ...raw(handlers.preflight) })
  app.route({
    method: [...app.supportedMethods].filter((method) => method !== 'OPTIONS'),
    url: mcpPath,
    ...raw(handlers.mcp),
  })
  for (const url of metadataPaths(mcpPath)) app.all(url, raw(secured(handlers.metadata)))
  app.all('/*', raw(secured(handlers.passthrough)))
  app.setNotFoundHandler({}, unreachable)
  await app.ready()
  if (!ingress) throw new Fault('internal', { detail: 'fastify made no server' })
  return ingress
}

function badRequest(error: Error & { code?: string }): string {
  return error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? '408 Request Timeout' : '400 Bad Request'
}

/** Fastify wants a handler on every route; `onRequest` has answered before it could run. */
function unreachable(request: FastifyRequest, reply: FastifyReply): void {
  reply.hijack()
  refuseProblem(request.raw, reply.raw, new Fault('http.not_found'))
}
