import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRemoteJWKSet, type JWTPayload, jwtVerify } from 'jose'
import type { Test } from 'tap'

export interface Seen {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

export interface Reply {
  readonly status?: number
  readonly body: unknown
}

export interface StandIn {
  readonly origin: string
  readonly seen: Seen[]
  /** Waits this long before each answer, ms. */
  delayMs: number
  /** Where set, answered instead. */
  instead: Reply | undefined
}

/** A service that answers what `answer` says of each request, on loopback. */
export async function standIn(t: Test, answer: (seen: Seen) => Reply | Promise<Reply>): Promise<StandIn> {
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += String(chunk)
    const seen = { method: request.method ?? '', path: request.url ?? '', headers: request.headers, body }
    made.seen.push(seen)
    if (made.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, made.delayMs))
    const { status = 200, body: out } = made.instead ?? (await answer(seen))
    const text = typeof out === 'string' ? out : JSON.stringify(out)
    const type = typeof out === 'string' ? 'text/xml' : 'application/json'
    response.writeHead(status, { 'content-type': type }).end(text)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const made: StandIn = { origin, seen: [], delayMs: 0, instead: undefined }
  return made
}

/** Verifies a token of ours as a relying party does: from the issuer's address alone. */
export async function verifyOwn(
  token: string,
  issuer: string,
  audience: string,
): Promise<JWTPayload & { alg: string }> {
  const discovery = (await (await fetch(`${issuer}/.well-known/openid-configuration`)).json()) as {
    issuer: string
    jwks_uri: string
  }
  if (discovery.issuer !== issuer) throw new Error('another issuer')
  const keys = createRemoteJWKSet(new URL(discovery.jwks_uri))
  const { payload, protectedHeader } = await jwtVerify(token, keys, { issuer, audience, typ: 'JWT' })
  return { ...payload, alg: protectedHeader.alg }
}

export const form = (body: string): Record<string, string> => Object.fromEntries(new URLSearchParams(body))
