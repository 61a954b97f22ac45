import { readFileSync } from 'node:fs'
import { Agent } from 'node:https'
import { rootCertificates } from 'node:tls'
import type { Clock } from '../../../shared/clock.ts'
import type { AcmeSettings } from '../../../shared/config/gateway-tls.ts'
import { Fault } from '../../../shared/faults.ts'

export type Acme = typeof import('acme-client')

/** A whole order; the server's own limits are far below. */
const orderLimitMs = 5 * 60_000
const requestTimeoutMs = 15_000
const maxAnswerBytes = 1 << 20

interface Answer {
  status?: number
  headers?: Record<string, unknown>
}

/** The library with our bounds, and what it does not hand out: the last Retry-After of the server. */
export interface AcmeLibrary {
  readonly acme: Acme
  /** Milliseconds that the server asked to wait for in its last 429 or 503, and forgets it; 0: it did not. */
  takeRetryAfterMs(): number
  close(): void
}

/**
 * Loads acme-client, which costs a start nothing where a certificate is at hand. Its HTTP client is one for the
 * process, and so are these settings: no redirects, no proxy, bounded answers, one try (waits between tries are ours).
 */
export async function loadAcme(caPath: string | null): Promise<AcmeLibrary> {
  const { default: acme } = (await import('acme-client')) as unknown as { default: Acme }
  const { axios } = acme
  Object.assign(axios.defaults, {
    timeout: requestTimeoutMs,
    maxContentLength: maxAnswerBytes,
    maxRedirects: 0,
    proxy: false,
    httpsAgent: new Agent({
      keepAlive: false,
      ...(caPath === null ? {} : { ca: [...rootCertificates, readCa(caPath)] }),
    }),
  })
  const settings = (axios.defaults as unknown as { acmeSettings: { retryMaxAttempts: number } }).acmeSettings
  settings.retryMaxAttempts = 0

  let retryAfterMs = 0
  const note = (response: Answer | undefined): void => {
    if (response?.status !== 429 && response?.status !== 503) return
    const said = String(response.headers?.['retry-after'] ?? '')
    const ms = /^\d{1,7}$/.test(said) ? Number(said) * 1000 : Date.parse(said) - Date.now()
    retryAfterMs = Number.isFinite(ms) ? Math.min(Math.max(ms, 0), 86_400_000) : 0
  }
  // Before acme-client's own, which reads the answer even of a request that got none, and so hides why.
  const interceptor = {
    fulfilled: (response: Answer): Answer => response,
    rejected: (error: { response?: Answer; config?: unknown }): never => {
      note(error.response)
      if (error.response === undefined) delete error.config
      throw error
    },
    synchronous: false,
    runWhen: null,
  }
  const { handlers } = axios.interceptors.response as unknown as { handlers: unknown[] }
  handlers.unshift(interceptor)
  return {
    acme,
    takeRetryAfterMs: () => {
      const ms = retryAfterMs
      retryAfterMs = 0
      return ms
    },
    close: () => void handlers.splice(handlers.indexOf(interceptor), 1),
  }
}

function readCa(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new Fault('config.invalid', { detail: `AEMBIT_ACME_CA_PATH: ${path} can not be read (${code})` })
  }
}

/** `externalAccountBinding` of the client; the key is read anew each time, so that a corrected file counts. */
export function binding(eab: AcmeSettings['eab']): { kid: string; hmacKey: string } | undefined {
  if (eab === null) return undefined
  return { kid: eab.keyId, hmacKey: readFileSync(eab.hmacKeyPath, 'utf8').trim() }
}

/** What an operator should read of an error of the ACME server or the way to it: one line, bounded. */
export function explain(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  const said = message?.replace(/\s+/g, ' ').trim()
  const text = said && code && !said.includes(code) ? `${code}: ${said}` : said || code || String(error)
  return text.slice(0, 400)
}

/** The server does not know or want our account any more (RFC 8555 §6.7, §7.3.6): the next attempt makes a new one. */
export const isAccountGone = (error: unknown): boolean =>
  /accountDoesNotExist|account.*(not found|not exist|not valid|deactivated|revoked)|no account/i.test(
    (error as Error).message,
  )

/** Work of the library, which takes no signal: what it does after the end goes nowhere. Throws at the limit and when front stops. */
export async function bounded<T>(work: Promise<T>, clock: Clock, stopping: AbortSignal): Promise<T> {
  const limit = new AbortController()
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const stop = (): void => reject(new Error('front stops'))
  stopping.addEventListener('abort', stop, { once: true })
  const late = clock
    .sleep(orderLimitMs, limit.signal)
    .then(() => reject(new Error(`the ACME server took longer than ${orderLimitMs / 60_000} minutes`)))
    .catch(() => {})
  aborted.catch(() => {})
  try {
    return await Promise.race([work, aborted])
  } finally {
    limit.abort()
    await late
    stopping.removeEventListener('abort', stop)
    work.catch(() => {})
  }
}
