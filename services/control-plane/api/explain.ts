import { z } from 'zod'
import { explain, type Principal } from '../../../shared/policy.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import { tokenClaims } from '../authorization/gate.ts'
import type { Applied } from '../fleet/snapshots.ts'
import type { Identity } from '../identity/types.ts'
import type { CircumstancesOf } from '../policy/issuance.ts'

/** POST /api/v1/access-policies/explain: "why can Ann not call jira_create?" */
export const explainRequestSchema = z.strictObject({
  /** `sub` of the person's tokens. */
  user: z.string().min(1).max(254),
  /** Claims in place of what is known of the person; needed for someone who never signed in here. */
  claims: z.record(z.string(), z.unknown()).optional(),
  identityProvider: z.string().max(63).optional(),
  clientWorkload: z.string().max(63),
  clientId: z.string().max(254).default(''),
  /** Server workload; found by the tool's prefix where it is left out. */
  server: z.string().max(63).optional(),
  /** The server's own name of the tool, or, without `server`, the name that agents see. */
  tool: z.string().max(256).optional(),
  to: z.enum(['see', 'call']).default('call'),
  annotations: z.unknown().optional(),
  arguments: z.unknown().optional(),
  /** ISO 8601; now unless told: with the time and address of an event this replays it. */
  at: z.iso.datetime({ offset: true }).optional(),
  clientIp: z.string().max(64).optional(),
})

export type ExplainRequest = z.infer<typeof explainRequestSchema>

/** The decision and every policy that was looked at on the way; undefined where nothing is known of the person. */
export function explainDecision(
  applied: Applied,
  ask: ExplainRequest,
  person: Identity | undefined,
  circumstancesOf: CircumstancesOf,
) {
  if (!person && !ask.claims) return undefined
  const { config, index, snapshot } = applied
  const { issuer } = config.authorizationServer
  const principal: Principal = {
    issuer,
    subject: ask.user,
    clientId: ask.clientId,
    clientWorkload: ask.clientWorkload,
    identityProvider: ask.identityProvider ?? person?.idp,
    claims: {
      ...person?.claims,
      ...(person ? tokenClaims(person, null) : {}),
      ...ask.claims,
      iss: issuer,
      sub: ask.user,
      aud: config.gateway.url,
      client_id: ask.clientId,
    },
  }
  const target = targetOf(snapshot.servers, ask)
  const circumstances = circumstancesOf(ask.clientIp)
  const { decision, steps } = explain(
    index,
    principal,
    {
      serverId: target.server,
      tool: target.tool === undefined ? undefined : { name: target.tool, annotations: ask.annotations },
      to: ask.to,
      args: ask.arguments,
    },
    ask.at === undefined ? circumstances : { ...circumstances, now: Date.parse(ask.at) },
  )
  return { snapshotVersion: snapshot.version, ...target, decision, steps }
}

/** `jira_create` is the tool `create` of the server with the prefix `jira`, as at the gateway. */
function targetOf(
  servers: readonly ServerWorkload[],
  { server, tool }: ExplainRequest,
): { server?: string | undefined; tool?: string | undefined } {
  if (server !== undefined || tool === undefined) return { server, tool }
  const end = tool.indexOf('_')
  const prefixed = end > 0 ? servers.find(({ prefix }) => prefix === tool.slice(0, end)) : undefined
  if (prefixed) return { server: prefixed.id, tool: tool.slice(end + 1) }
  return { server: servers.find(({ prefix }) => prefix === null)?.id ?? '', tool }
}
