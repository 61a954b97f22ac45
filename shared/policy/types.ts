import type { ContentGuard } from '../wire/content-security.ts'
import type {
  AccessPolicy,
  Block,
  ClientWorkload,
  ServerWorkload,
  Snapshot,
  TrustProvider,
} from '../wire/snapshot.ts'
import type { CompiledCondition } from './conditions.ts'
import type { CompiledToolAccess } from './tool-access.ts'

/** Who asks, as their access token names them. Frozen; one object lives as long as its verified token. */
export interface Principal {
  issuer: string
  subject: string
  clientId: string
  /** `client`: an agent with credentials of its own and no person behind it. A person unless told. */
  kind?: 'person' | 'client'
  /** The token is an identity provider's own, taken directly; it was not issued by our authorization server. */
  direct?: boolean
  /** Client workload that the authorization server identified when it issued the token. */
  clientWorkload: string | undefined
  /** Identity provider the user signed in at. */
  identityProvider: string | undefined
  claims: Readonly<Record<string, unknown>>
}

/** ISO 3166-1 alpha-2 of the country, ISO 3166-2 second parts of its subdivisions, largest first. */
export interface Location {
  readonly country: string
  readonly subdivisions: readonly string[]
}

/** Undefined for an address that the database does not know. */
export type Locate = (address: string) => Location | undefined

/** What else a decision hangs on. Injected, so that the decision itself stays a pure function and can be replayed. */
export interface Circumstances {
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Address of the MCP client, as front saw it. */
  readonly clientIp?: string | undefined
  /** Absent: no GeoIP database is configured, so no location is known. */
  readonly locate?: Locate | undefined
}

/** Every reason that a decision may have; docs/policy.md says what each means. */
export const reasonCodes = [
  'allowed',
  'kill_switch',
  'no_policy',
  'policy_inactive',
  'subject_kind',
  'client_workload_unknown',
  'trust_provider_unknown',
  'trust_provider_mismatch',
  'server_unknown',
  'access_condition_unknown',
  'time_mismatch',
  'geoip_mismatch',
  'geoip_unavailable',
  'cel_mismatch',
  'cel_error',
  'content_security_unknown',
  'tool_hidden',
  'tool_blocked',
  'prompts_blocked',
  'resources_blocked',
] as const
export type ReasonCode = (typeof reasonCodes)[number]

export interface Decision {
  readonly allow: boolean
  readonly reason: ReasonCode
  /** The policy that allowed, or the nearest one that did not; null where none was near. */
  readonly policyId: string | null
  readonly policyVersion: number | null
  readonly policyName: string | null
  /** What of the policy decided: `trustProvider:<id>`, `accessCondition:<id>`, `contentSecurity:<id>`; null for the policy as a whole. */
  readonly rule: string | null
  /** A sentence for an operator. Names attributes and rules, never a user's values. */
  readonly explanation: string
  /** Holds for these circumstances alone: decide again at the next request. */
  readonly volatile: boolean
}

/** What tool access control said, in the words of workload events. */
export interface ToolAccessVerdict {
  readonly decision: 'allowed' | 'filtered' | 'blocked'
  readonly control: 'visible' | 'invocable'
  readonly matchedRules?: readonly string[]
  readonly toolsRemoved?: number
  readonly toolsReturned?: number
  readonly reason?: string
}

/** A decision about one tool; `toolAccess` where the policy has tool access control. */
export interface ToolDecision extends Decision {
  readonly toolAccess?: ToolAccessVerdict
}

/** A tool under its server's own name. Annotations are the server's word; what it leaves out is the default of MCP. */
export interface ToolFacts {
  readonly name: string
  readonly annotations?: unknown
}

export interface CompiledPolicy {
  readonly policy: AccessPolicy
  /** Conditions on user, client, server, time and place. An id that names nothing is there as its id. */
  readonly conditions: readonly (CompiledCondition | string)[]
  /** Conditions on the tool, its annotations and the arguments. */
  readonly toolConditions: readonly CompiledCondition[]
  readonly toolAccess: readonly CompiledToolAccess[]
  /** Services that look at content, in the order of the policy. */
  readonly guards: readonly ContentGuard[]
  /** Ids under contentSecurity that name nothing: their policy denies. */
  readonly unknownContentSecurity: readonly string[]
}

/** A snapshot laid out for look-up; built once per snapshot, so that a decision costs the same with 10,000 policies. */
export interface PolicyIndex {
  readonly snapshot: Snapshot
  readonly servers: ReadonlyMap<string, ServerWorkload>
  readonly clients: ReadonlyMap<string, ClientWorkload>
  readonly trustProviders: ReadonlyMap<string, TrustProvider>
  readonly policies: ReadonlyMap<string, CompiledPolicy>
  readonly byClient: ReadonlyMap<string, readonly CompiledPolicy[]>
  readonly byServer: ReadonlyMap<string, readonly CompiledPolicy[]>
  /** The kill switch. */
  readonly blocked: Readonly<Record<Block['kind'], ReadonlySet<string>>>
}
