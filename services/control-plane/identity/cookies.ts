import type { FastifyReply, FastifyRequest } from 'fastify'

/**
 * Names and attributes of our cookies. Over https they carry the `__Host-` prefix: no other host, path or plain
 * connection can have set them. Plain http is a loopback mode of one machine, where browsers refuse that prefix.
 */
export interface CookieJar {
  readonly secure: boolean
  name(name: string): string
  read(request: FastifyRequest, name: string): string | undefined
  /** `maxAgeSecs` absent: until the browser closes. */
  write(reply: FastifyReply, name: string, value: string, maxAgeSecs?: number): void
  clear(reply: FastifyReply, name: string): void
}

export function createCookieJar(origin: string): CookieJar {
  const secure = origin.startsWith('https:')
  const full = (name: string): string => (secure ? `__Host-${name}` : name)
  const attributes = `Path=/; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`
  const append = (reply: FastifyReply, cookie: string): void => {
    const before = reply.getHeader('set-cookie')
    const list = before === undefined ? [] : Array.isArray(before) ? before : [String(before)]
    reply.removeHeader('set-cookie')
    reply.header('set-cookie', [...list, cookie])
  }
  return {
    secure,
    name: full,
    read: (request, name) => parseCookies(request.headers.cookie).get(full(name)),
    write: (reply, name, value, maxAgeSecs) =>
      append(
        reply,
        `${full(name)}=${value}; ${attributes}${maxAgeSecs === undefined ? '' : `; Max-Age=${maxAgeSecs}`}`,
      ),
    clear: (reply, name) => append(reply, `${full(name)}=; ${attributes}; Max-Age=0`),
  }
}

/** RFC 6265 §5.4; of a name that occurs twice the first counts, as in oidc-provider. */
export function parseCookies(header: string | undefined): Map<string, string> {
  const cookies = new Map<string, string>()
  for (const pair of (header ?? '').split(';').slice(0, 100)) {
    const at = pair.indexOf('=')
    if (at < 1) continue
    const name = pair.slice(0, at).trim()
    if (!cookies.has(name)) cookies.set(name, pair.slice(at + 1).trim())
  }
  return cookies
}
