import { z } from 'zod'
import { Fault } from '../../../shared/faults.ts'
import { Refused } from './issued.ts'
import { safeCode } from './oauth.ts'
import type { Outbound } from './outbound.ts'

/** What is asked for and how; the answer of a 2xx as text. */
export interface ExchangeRequest {
  readonly url: string
  readonly form?: Readonly<Record<string, string>> | URLSearchParams
  readonly json?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/** Names of RFC 9110 §15, as event consumers know them: "Request failed with BadRequest". */
export const statusName = (status: number): string => statusNames[status] ?? String(status)
const statusNames: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
}

/**
 * One request to a token service. Throws Refused for a 4xx that will not change by itself, Fault where a later try may
 * succeed. Nothing of the answer but a well-formed error code gets into either.
 */
export async function requestToken(outbound: Outbound, request: ExchangeRequest): Promise<string> {
  const body = request.form
    ? new URLSearchParams(request.form as never).toString()
    : JSON.stringify(request.json)
  const response = await outbound.fetch(request.url, {
    method: 'POST',
    headers: {
      accept: 'application/json',
      'content-type': request.form ? 'application/x-www-form-urlencoded' : 'application/json',
      ...request.headers,
    },
    body,
  })
  const text = await response.text()
  if (response.ok) return text
  const { status } = response
  if (status >= 500 || status === 408 || status === 425 || status === 429) {
    throw new Fault('upstream.rejected', { detail: `${place(request.url)} answered ${status}` })
  }
  const code = errorCode(text)
  throw new Refused(
    `Request failed with ${statusName(status)}${code === undefined ? '' : ` (${code})`}`,
    code,
  )
}

const tokenAnswer = z.object({
  access_token: z.string().regex(/^[\x21-\x7e]{1,16384}$/),
  token_type: z.string().optional(),
  expires_in: z.coerce.number().nonnegative().optional(),
})

export interface TokenAnswer {
  readonly accessToken: string
  /** Seconds; null where the service did not say. */
  readonly expiresIn: number | null
}

/** RFC 6749 §5.1. */
export async function requestOAuthToken(outbound: Outbound, request: ExchangeRequest): Promise<TokenAnswer> {
  const answer = parseJson(await requestToken(outbound, request), tokenAnswer, request.url)
  const type = answer.token_type?.toLowerCase() ?? 'bearer'
  // RFC 8693 §2.2.1: N_A for what is no access token.
  if (type !== 'bearer' && type !== 'n_a') {
    throw new Fault('upstream.garbage', {
      detail: `${place(request.url)} answered a token that is no bearer token`,
    })
  }
  return { accessToken: answer.access_token, expiresIn: answer.expires_in ?? null }
}

/** Names fields alone where the answer does not fit: its values are secret. */
export function parseJson<T>(text: string, schema: z.ZodType<T>, url: string): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new Fault('upstream.garbage', { detail: `${place(url)} answered something that is not JSON` })
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const fields = parsed.error.issues.slice(0, 5).map((issue) => issue.path.join('.') || '(answer)')
  throw new Fault('upstream.garbage', {
    detail: `${place(url)} answered another shape: ${fields.join(', ')}`,
  })
}

function errorCode(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: unknown }
    const code = safeCode(
      typeof error === 'object' && error !== null
        ? (error as { status?: string }).status?.toLowerCase()
        : error,
    )
    return code === 'error' ? undefined : code
  } catch {
    // AWS answers XML: <Error><Code>AccessDenied</Code>
    return /<Code>([A-Za-z]{1,60})<\/Code>/.exec(text)?.[1]
  }
}

/** Without its query. */
function place(url: string): string {
  const { origin, pathname } = new URL(url)
  return origin + pathname
}
