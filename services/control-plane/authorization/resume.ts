import type { FastifyRequest } from 'fastify'
import type { Provider } from 'oidc-provider'
import type { BrowserSessions } from '../identity/browser-session.ts'

/**
 * Puts a sign-in into the authorization request that waits for it. A session of another person at this browser ends
 * first: oidc-provider would otherwise revoke that person's agents while switching. Answers where the browser goes.
 */
export async function resumeInteraction(
  provider: Provider,
  sessions: BrowserSessions,
  request: FastifyRequest,
  uid: string,
  subject: string,
): Promise<string | null> {
  const details = await provider.Interaction.find(uid)
  if (details?.prompt.name !== 'login') return null
  await sessions.dropOther(request, subject)
  if (details.session && details.session.accountId !== subject) details.session = undefined
  details.result = { login: { accountId: subject } }
  await details.persist()
  return details.returnTo
}
