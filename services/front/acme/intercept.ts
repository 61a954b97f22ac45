import type { Socket } from 'node:net'
import { createServer } from 'node:tls'
import { acmeAlpn, type Challenges } from './challenges.ts'
import { type ClientHello, parseClientHello } from './client-hello.ts'

/** A ClientHello is smaller than one TLS record (RFC 8446 §5.1). */
const maxHelloBytes = 16 * 1024 + 5

/**
 * Answers tls-alpn-01 validations (RFC 8737) on the port that serves everyone. Node picks a certificate by name alone,
 * before it looks at ALPN, so a name could not be validated while it is served: while an order runs, and only then,
 * the first bytes of a connection are read here.
 */
export function createInterceptor(challenges: () => Challenges | null, helloTimeoutMs: number) {
  const server = createServer({
    ALPNProtocols: [acmeAlpn],
    minVersion: 'TLSv1.2',
    handshakeTimeout: helloTimeoutMs,
    SNICallback: (name, done) => done(null, challenges()?.alpn(name.toLowerCase())),
  })
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {})
    socket.end()
  })
  server.on('tlsClientError', (_error, socket) => socket.destroy())

  /** RFC 8737 §3: `acme-tls/1` alone. */
  const answer = (hello: ClientHello | null, socket: Socket): boolean => {
    if (hello?.protocols.length !== 1 || hello.protocols[0] !== acmeAlpn) return false
    if (!challenges()?.alpn(hello.serverName)) return false
    server.emit('connection', socket)
    return true
  }

  return (socket: Socket, next: (socket: Socket) => void): void => {
    if (!challenges()?.active) {
      next(socket)
      return
    }
    peek(socket, helloTimeoutMs, (hello) => {
      if (!answer(hello, socket)) next(socket)
    })
  }
}

/** Reads the ClientHello and puts it back. A client that says nothing in time is closed. */
function peek(socket: Socket, timeoutMs: number, done: (hello: ClientHello | null) => void): void {
  let bytes = Buffer.alloc(0)
  const timer = setTimeout(() => socket.destroy(), timeoutMs).unref()
  const finish = (hello: ClientHello | null): void => {
    clearTimeout(timer)
    socket.off('readable', look)
    socket.off('end', ended)
    if (bytes.length > 0) socket.unshift(bytes)
    done(hello)
  }
  const ended = (): void => finish(null)
  const look = (): void => {
    for (let chunk: Buffer | null = socket.read(); chunk !== null; chunk = socket.read()) {
      bytes = Buffer.concat([bytes, chunk])
    }
    const hello = parseClientHello(bytes)
    if (hello !== undefined) finish(hello)
    else if (bytes.length > maxHelloBytes) finish(null)
  }
  socket.on('readable', look)
  socket.once('end', ended)
  socket.once('close', () => clearTimeout(timer))
}
