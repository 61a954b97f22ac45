import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerResponse } from 'node:http2'
import { Fault } from '../../shared/faults.ts'

export interface BodyLimits {
  readonly bytes: number
  readonly timeoutMs: number
}

/** What is read and thrown away of a refused body before we stop listening, so that the answer is not lost in a reset. */
const discardBytes = 256 * 1024
const lingerMs = 1_000

/**
 * The whole body, at most `bytes` long and within `timeoutMs`. Throws http.body_too_large (from Content-Length alone
 * where it says so), http.body_timeout, http.malformed where the client goes away half-way.
 */
export function readBody(req: IncomingMessage, res: ServerResponse, limits: BodyLimits): Promise<Buffer> {
  const declared = Number(req.headers['content-length'] ?? 0)
  if (declared > limits.bytes) return Promise.reject(new Fault('http.body_too_large'))
  inviteBody(req, res)
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const finish = (fault: Fault | undefined): void => {
      clearTimeout(timer)
      req.off('data', onData)
      req.off('end', onEnd)
      req.off('close', onClose)
      if (fault) {
        req.pause()
        reject(fault)
      } else {
        resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size))
      }
    }
    const onData = (chunk: Buffer): void => {
      size += chunk.length
      if (size > limits.bytes) finish(new Fault('http.body_too_large'))
      else chunks.push(chunk)
    }
    const onEnd = (): void => finish(undefined)
    const onClose = (): void => finish(new Fault('http.malformed', { detail: 'the body ended early' }))
    const timer = setTimeout(() => finish(new Fault('http.body_timeout')), limits.timeoutMs)
    req.on('data', onData)
    req.on('end', onEnd)
    req.on('close', onClose)
  })
}

/** Answers `Expect: 100-continue` once we know that we want the body (RFC 9110 §10.1.1). */
export function inviteBody(req: IncomingMessage, res: ServerResponse): void {
  if (req.headers.expect?.toLowerCase() === '100-continue') res.writeContinue()
}

/**
 * To be called before an answer that leaves a body unread. A short one is left to Node, which throws it away and keeps
 * the connection; a long or endless one must cost us no more than `discardBytes` and `lingerMs`.
 */
export function abandonBody(req: IncomingMessage, res: ServerResponse): void {
  if (req.complete || req.destroyed) return
  const endless = req.headers['transfer-encoding'] !== undefined
  if (req.httpVersionMajor === 2) {
    const { stream } = res as unknown as Http2ServerResponse
    // RFC 9113 §8.1: a complete answer, then RST_STREAM(NO_ERROR), asks the client to stop sending.
    stream?.once('finish', () => stream.close())
    return
  }
  if (!endless && Number(req.headers['content-length'] ?? 0) <= discardBytes) return
  const { socket } = req
  res.shouldKeepAlive = false
  let read = 0
  req.on('data', (chunk: Buffer) => {
    read += chunk.length
    if (read > discardBytes) req.pause()
  })
  // Node would destroy the socket with the answer's last byte, and a reset can overtake the answer.
  socket.destroySoon = () => {
    socket.end()
    setTimeout(() => socket.destroy(), lingerMs).unref()
  }
}
