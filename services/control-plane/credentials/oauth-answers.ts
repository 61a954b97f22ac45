/** What an answer of an authorization server says, before a library reads it by rules that fit our servers less well. */

/**
 * Without its challenge: RFC 6749 §5.2 has a 401 with both a challenge and an error code, and the code alone says what is
 * the matter. A challenge without one may be anybody's between us and the server.
 */
export function withoutChallenge(response: Response): Response {
  if (response.status !== 401 || !response.headers.has('www-authenticate')) return response
  const headers = new Headers(response.headers)
  headers.delete('www-authenticate')
  return new Response(response.body, { status: response.status, headers })
}

/** Without its ID token, where nothing is at hand to compare it with and nothing hangs on it. */
export async function withoutIdToken(response: Response): Promise<Response> {
  if (!response.ok) return response
  const text = await response.text()
  const { status } = response
  const type = response.headers.get('content-type')
  const headers = type === null ? {} : { 'content-type': type }
  try {
    const { id_token: _, ...rest } = JSON.parse(text) as Record<string, unknown>
    return new Response(JSON.stringify(rest), { status, headers })
  } catch {
    return new Response(text, { status, headers })
  }
}
