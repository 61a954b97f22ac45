import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { digest } from '../store/digest.ts'
import type { CookieJar } from './cookies.ts'

const cookie = 'browser'

export interface BrowserBinding {
  /** The value to put into a form of this browser for `purpose`; sets the browser's cookie where it has none. */
  token(request: FastifyRequest, reply: FastifyReply, purpose: string): string
  /** Whether a posted form came from a page that we gave to this browser for `purpose`. */
  check(request: FastifyRequest, token: unknown, purpose: string): boolean
  /** Digest of the browser's cookie, to bind a flow to; undefined where it has none. */
  id(request: FastifyRequest): string | undefined
}

/**
 * Signed double submit: a random cookie that scripts and other sites can not read, and in each form its HMAC under a
 * server secret and the form's purpose. A planted cookie is useless without the secret, a token of one form or
 * interaction useless in another.
 */
export function createBrowserBinding(
  secret: Buffer,
  cookies: CookieJar,
  refused: (request: FastifyRequest, why: string) => void,
): BrowserBinding {
  const sign = (value: string, purpose: string): Buffer =>
    createHmac('sha256', secret).update(`${purpose}\n${value}`).digest()
  const current = (request: FastifyRequest): string | undefined => {
    const value = cookies.read(request, cookie)
    return value !== undefined && /^[A-Za-z0-9_-]{43}$/.test(value) ? value : undefined
  }
  // A page may hold several forms, and its first answer is where the cookie is made.
  const made = new WeakMap<FastifyRequest, string>()
  return {
    token: (request, reply, purpose) => {
      let value = current(request) ?? made.get(request)
      if (value === undefined) {
        value = randomBytes(32).toString('base64url')
        made.set(request, value)
        cookies.write(reply, cookie, value)
      }
      return sign(value, purpose).toString('base64url')
    },
    check: (request, token, purpose) => {
      const refuse = (why: string): false => {
        refused(request, why)
        return false
      }
      // Browsers say where a request comes from; where they do, a foreign page is refused before any arithmetic.
      const site = request.headers['sec-fetch-site']
      if (site !== undefined && site !== 'same-origin' && site !== 'none') return refuse('from another site')
      const value = current(request)
      if (value === undefined) return refuse('the browser has no cookie of ours')
      if (typeof token !== 'string') return refuse('no token in the form')
      const given = Buffer.from(token, 'base64url')
      const wanted = sign(value, purpose)
      const good = given.length === wanted.length && timingSafeEqual(given, wanted)
      return good || refuse('the token is not of this browser and form')
    },
    id: (request) => {
      const value = current(request) ?? made.get(request)
      return value === undefined ? undefined : digest(value)
    },
  }
}
