import { z } from 'zod'
import type { GuardedFetch } from './guarded-fetch.ts'

const graph = 'https://graph.microsoft.com/v1.0/me/getMemberObjects'
const maxGroups = 11_000
const answerSchema = z.object({ value: z.array(z.string().max(255)).max(maxGroups) })

/**
 * Whether an Entra ID token says that it left groups out: more than 200 do not fit. The address in `_claim_sources` is
 * of a service that is gone, and would be a URL of somebody else's choice; Microsoft Graph is asked instead.
 */
export function groupsAreElsewhere(claims: Readonly<Record<string, unknown>>): boolean {
  const { _claim_names: names, hasgroups } = claims
  const listed = typeof names === 'object' && names !== null && Object.hasOwn(names, 'groups')
  return listed || hasgroups === true || hasgroups === 'true'
}

/** All groups of the person whose token this is, at most 11,000. Throws Error with what Graph answered. */
export async function fetchGroups(fetch: GuardedFetch, accessToken: string): Promise<string[]> {
  const response = await fetch(graph, {
    method: 'POST',
    headers: { authorization: `Bearer ${accessToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ securityEnabledOnly: false }),
  })
  if (response.status !== 200) {
    await response.body?.cancel()
    throw new Error(
      `Microsoft Graph answered ${response.status} to getMemberObjects: grant User.Read and GroupMember.Read.All`,
    )
  }
  return answerSchema.parse(await response.json()).value
}
