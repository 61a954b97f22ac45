import { createServer, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { part } from './last-word.ts'

/** Answers may take no more than this; the listener relays nothing, so there is nothing to wait for. */
const timeoutMs = 5_000
/** How long a client that was refused may take to close. */
const lingerMs = 1_000
const badRequest = Buffer.from('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')

/** The key authorization for a path that an ACME server asks for, or undefined (RFC 8555 §8.3). */
export type ChallengeAnswer = (path: string) => string | undefined

/**
 * The port-80 listener: answers http-01 validations; every other request is sent to the same path of the https origin (308 keeps method and body,
 * RFC 9110 §15.4.9). The client's Host is never repeated, and no HSTS is sent: it counts over https alone
 * (RFC 6797 §7.2).
 */
export function createRedirectServer(origin: string, challenge: ChallengeAnswer): Server {
  const server = createServer(
    {
      maxHeaderSize: 8 * 1024,
      headersTimeout: timeoutMs,
      requestTimeout: timeoutMs,
      keepAliveTimeout: 1,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => {
      // `*` and absolute forms (RFC 9112 §3.2) have no path of ours.
      const path = request.url?.startsWith('/') ? request.url : '/'
      const answer = request.method === 'GET' ? challenge(path) : undefined
      if (answer !== undefined) {
        response.writeHead(200, { 'content-type': 'application/octet-stream', connection: 'close' })
        response.end(answer)
        return
      }
      response.writeHead(308, { location: origin + path, 'content-length': 0, connection: 'close' })
      response.end()
    },
  )
  server.maxConnections = 512
  server.on('clientError', (_error, socket) => {
    // Half open, it would keep its place for as long as the client does not close.
    if (socket.writable) part(socket as Socket, lingerMs, badRequest)
  })
  return server
}
