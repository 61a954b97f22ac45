import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { request as httpsRequest } from 'node:https'

export interface Asked {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface AskOptions {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** PEM of authorities besides the usual ones. */
  readonly ca?: readonly string[]
  /** Only for what holds no secret: to see further than a certificate that is known to be wrong. */
  readonly insecure?: boolean
}

const timeoutMs = 10_000
const maxBytes = 1024 * 1024

/** One request, `http:`, `https:` or `unix:/path`; no redirect is followed. Rejects with an error for a person. */
export function ask(url: string, options: AskOptions = {}): Promise<Asked> {
  return new Promise((resolve, reject) => {
    const { method = 'GET', headers = {}, body, ca, insecure } = options
    const unix = url.startsWith('unix:')
    const target = unix ? new URL('http://localhost/') : new URL(url)
    const make = target.protocol === 'https:' ? httpsRequest : httpRequest
    const sent = make(
      target,
      {
        method,
        headers,
        agent: false,
        timeout: timeoutMs,
        ...(unix ? { socketPath: url.slice('unix:'.length) } : {}),
        ...(ca ? { ca: [...ca] } : {}),
        ...(insecure ? { rejectUnauthorized: false } : {}),
      },
      (response) => {
        const chunks: Buffer[] = []
        let size = 0
        response.on('data', (chunk: Buffer) => {
          size += chunk.length
          if (size > maxBytes) response.destroy(new Error(`more than ${maxBytes} bytes`))
          else chunks.push(chunk)
        })
        response.on('error', reject)
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString('utf8'),
          }),
        )
      },
    )
    const late = setTimeout(
      () => sent.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)),
      timeoutMs,
    )
    sent.on('close', () => clearTimeout(late))
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)))
    sent.on('error', reject)
    sent.end(body)
  })
}

/** The body as a JSON object; undefined where it is none. */
export function jsonOf({ body }: Asked): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}

/** In words: an errno says little at 3 a.m. */
export function wordsOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  const words: Readonly<Record<string, string>> = {
    ECONNREFUSED: 'the connection is refused: nothing listens there',
    ECONNRESET: 'the connection was reset',
    ENOTFOUND: 'the name does not resolve',
    EAI_AGAIN: 'the name servers do not answer',
    ETIMEDOUT: 'no answer: a firewall drops the packets, or the machine is down',
    EHOSTUNREACH: 'there is no route to the host',
    ENETUNREACH: 'there is no route to the network',
    ENOENT: 'the socket does not exist',
    EACCES: 'permission denied: run it as root or as the user of the gateway',
  }
  return code === undefined ? message : (words[code] ?? `${code}: ${message}`)
}
