import type {
  AccessPolicy,
  Block,
  ClientWorkload,
  MatchRule,
  ServerWorkload,
  Snapshot,
  TrustProvider,
} from './wire/snapshot.ts'

/**
 * The one decision function: pure, used by the gateway for listing and calling and by the control plane when it
 * issues tokens. Deny by default: what no active policy allows is denied, and says why.
 */
export interface Principal {
  issuer: string
  subject: string
  clientId: string
  /** `client`: an agent with credentials of its own and no person behind it. A person unless told. */
  kind?: 'person' | 'client'
  /** Client workload that the authorization server identified when it issued the token. */
  clientWorkload: string | undefined
  /** Identity provider the user signed in at. */
  identityProvider: string | undefined
  claims: Readonly<Record<string, unknown>>
}

export type ReasonCode =
  | 'allowed'
  | 'kill_switch'
  | 'no_policy'
  | 'policy_inactive'
  | 'subject_kind'
  | 'client_workload_unknown'
  | 'trust_provider_unknown'
  | 'trust_provider_mismatch'
  | 'server_unknown'

export interface Decision {
  readonly allow: boolean
  readonly reason: ReasonCode
  /** The policy that allowed, or the nearest one that did not; null where none was near. */
  readonly policyId: string | null
  readonly policyVersion: number | null
  readonly policyName: string | null
  /** A sentence for an operator. */
  readonly explanation: string
}

/** A snapshot laid out for look-up; built once per snapshot, so that a decision costs the same with 10,000 policies. */
export interface PolicyIndex {
  readonly snapshot: Snapshot
  readonly servers: ReadonlyMap<string, ServerWorkload>
  readonly clients: ReadonlyMap<string, ClientWorkload>
  readonly trustProviders: ReadonlyMap<string, TrustProvider>
  readonly byClient: ReadonlyMap<string, readonly AccessPolicy[]>
  readonly byServer: ReadonlyMap<string, readonly AccessPolicy[]>
  /** The kill switch. */
  readonly blocked: Readonly<Record<Block['kind'], ReadonlySet<string>>>
}

export function indexSnapshot(snapshot: Snapshot): PolicyIndex {
  const group = (key: 'clientWorkload' | 'serverWorkload', kind: AccessPolicy['kind']) => {
    const groups = new Map<string, AccessPolicy[]>()
    for (const policy of snapshot.policies) {
      const id = policy[key]
      if (policy.kind !== kind || id === undefined) continue
      const list = groups.get(id)
      if (list) list.push(policy)
      else groups.set(id, [policy])
    }
    return groups
  }
  return {
    snapshot,
    servers: new Map(snapshot.servers.map((server) => [server.id, server])),
    clients: new Map(snapshot.clientWorkloads.map((client) => [client.id, client])),
    trustProviders: new Map(snapshot.trustProviders.map((provider) => [provider.id, provider])),
    byClient: group('clientWorkload', 'client-to-gateway'),
    byServer: group('serverWorkload', 'gateway-to-server'),
    blocked: {
      user: blocked(snapshot, 'user'),
      client: blocked(snapshot, 'client'),
      server: blocked(snapshot, 'server'),
      token: blocked(snapshot, 'token'),
    },
  }
}

function blocked(snapshot: Snapshot, kind: Block['kind']): ReadonlySet<string> {
  return new Set((snapshot.blocks ?? []).filter((block) => block.kind === kind).map(({ value }) => value))
}

/** The refusal where an administrator has shut this user or client out, whatever the policies say. */
function killed(index: PolicyIndex, principal: Principal): Decision | undefined {
  const { user, client } = index.blocked
  if (user.has(principal.subject))
    return denied('kill_switch', null, 'An administrator has blocked this user.')
  const { clientId, clientWorkload } = principal
  return client.has(clientId) || (clientWorkload !== undefined && client.has(clientWorkload))
    ? denied('kill_switch', null, 'An administrator has blocked this client.')
    : undefined
}

/** May this client and user come in at all? */
export function decideGateway(index: PolicyIndex, principal: Principal): Decision {
  const stopped = killed(index, principal)
  if (stopped) return stopped
  const id = principal.clientWorkload
  const client = id === undefined ? undefined : index.clients.get(id)
  if (!client)
    return denied('client_workload_unknown', null, 'The token names no client workload of this tenant.')
  return firstAllowing(
    index,
    index.byClient.get(client.id) ?? [],
    principal,
    `client workload "${client.name}"`,
  )
}

/** May this user reach this server through the gateway? */
export function decideServer(index: PolicyIndex, principal: Principal, serverId: string): Decision {
  const server = index.servers.get(serverId)
  if (!server) return denied('server_unknown', null, 'No server workload has this id.')
  const stopped = killed(index, principal)
  if (stopped) return stopped
  if (index.blocked.server.has(serverId))
    return denied('kill_switch', null, 'An administrator has blocked this server.')
  return firstAllowing(
    index,
    index.byServer.get(serverId) ?? [],
    principal,
    `server workload "${server.name}"`,
  )
}

function firstAllowing(
  index: PolicyIndex,
  policies: readonly AccessPolicy[],
  principal: Principal,
  what: string,
): Decision {
  let nearest: Decision | undefined
  for (const policy of policies) {
    const decision = decidePolicy(index, policy, principal)
    if (decision.allow) return decision
    if (!nearest || nearest.reason === 'policy_inactive') nearest = decision
  }
  return nearest ?? denied('no_policy', null, `No access policy names ${what}.`)
}

function decidePolicy(index: PolicyIndex, policy: AccessPolicy, principal: Principal): Decision {
  if (!policy.active) return denied('policy_inactive', policy, `Policy "${policy.name}" is inactive.`)
  // A policy that was written for people is none for a client that comes alone: it has to be named.
  const kind = principal.kind ?? 'person'
  if (!(policy.subjects ?? ['person']).includes(kind)) {
    const who = kind === 'client' ? 'clients without a person' : 'people'
    return denied('subject_kind', policy, `Policy "${policy.name}" is not for ${who}.`)
  }
  for (const id of policy.trustProviders) {
    const provider = index.trustProviders.get(id)
    if (!provider)
      return denied(
        'trust_provider_unknown',
        policy,
        `Policy "${policy.name}" names no known trust provider.`,
      )
    const miss = attest(provider, principal)
    if (miss) return denied('trust_provider_mismatch', policy, `Trust provider "${provider.name}": ${miss}`)
  }
  return {
    allow: true,
    reason: 'allowed',
    policyId: policy.id,
    policyVersion: policy.version,
    policyName: policy.name,
    explanation: `Policy "${policy.name}" allows it.`,
  }
}

/** Undefined where the provider attests the user, else why it does not. Names attributes, never a user's values. */
function attest(provider: TrustProvider, principal: Principal): string | undefined {
  if (provider.identityProvider !== undefined && provider.identityProvider !== principal.identityProvider) {
    return 'the user signed in at another identity provider.'
  }
  const wanted = new Map<string, MatchRule[]>()
  for (const rule of provider.matchRules) {
    const key = rule.attribute === 'OidcCustom' ? `OidcCustom:${rule.key ?? ''}` : rule.attribute
    wanted.set(key, [...(wanted.get(key) ?? []), rule])
  }
  for (const [key, rules] of wanted) {
    const values = claimValues(rules[0]!, principal)
    if (!rules.some((rule) => values.includes(rule.value))) return `no match rule for ${key} fits.`
  }
  return undefined
}

function claimValues(rule: MatchRule, principal: Principal): string[] {
  const claims = principal.claims
  const value =
    rule.attribute === 'OidcIssuer'
      ? principal.issuer
      : rule.attribute === 'OidcSubject'
        ? principal.subject
        : rule.attribute === 'OidcAudience'
          ? claims.aud
          : Object.hasOwn(claims, rule.key ?? '')
            ? claims[rule.key ?? '']
            : undefined
  const list = Array.isArray(value) ? value : [value]
  return list.filter((item) => ['string', 'number', 'boolean'].includes(typeof item)).map(String)
}

function denied(reason: ReasonCode, policy: AccessPolicy | null, explanation: string): Decision {
  return {
    allow: false,
    reason,
    policyId: policy?.id ?? null,
    policyVersion: policy?.version ?? null,
    policyName: policy?.name ?? null,
    explanation,
  }
}
