import { presets } from '../config/presets.ts'
import type { OidcConfig } from '../config/schema.ts'
import { keepClaims } from './claims.ts'
import { normalizeEmail } from './directory.ts'
import { type Identity, SignInRefused } from './types.ts'

type Claims = Readonly<Record<string, unknown>>

/** More would not fit into the tokens that agents send with each request. */
export const maxGroups = 200

/** A value of claims by name; a dot steps into an object where no claim has the whole name. Own members alone. */
export function claimAt(claims: Claims, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path]
  let value: unknown = claims
  for (const step of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined
    value = (value as Claims)[step]
  }
  return value
}

/** The provider's claims as ours. Throws SignInRefused where no single usable subject comes out. */
export function mapClaims(config: OidcConfig, claims: Claims): Identity {
  const { subjectClaim, name: provider } = config
  const text = (name: string): string | undefined => {
    const value = claimAt(claims, name)
    return typeof value === 'string' && value.length > 0 && value.length <= 255 ? value : undefined
  }
  checkTenant(config, text)
  const raw = text(subjectClaim)
  if (raw === undefined) {
    throw new SignInRefused(
      `"${provider}" did not say who you are: the claim "${subjectClaim}" is missing.`,
      `claim ${subjectClaim} is absent, empty or not one string`,
      { reason: 'NoDataFound' },
    )
  }
  const proven = provenAddress(config, claims)
  if (subjectClaim === 'email' && !proven) {
    throw new SignInRefused(
      `"${provider}" has not verified your email address.`,
      'email_verified is not true',
      {
        reason: 'MatchRuleFailed',
      },
    )
  }
  const email = proven ? text('email') : undefined
  const name = text('name') ?? text('preferred_username')
  return {
    idp: config.id,
    idpSubject: String(claims.sub),
    claims: keepClaims(claims),
    subject: subjectClaim === 'email' ? normalizeEmail(raw) : subjectOf(config, raw, text),
    ...(email === undefined ? {} : { email: normalizeEmail(email) }),
    ...(name === undefined ? {} : { name }),
    groups: groupsOf(config, claims),
  }
}

/** An object id is unique in its tenant alone: where several tenants come in by one door it carries the tenant's. */
function subjectOf(
  { preset, issuer }: OidcConfig,
  raw: string,
  text: (name: string) => string | undefined,
): string {
  const tenant = preset === undefined ? undefined : presets[preset].tenantClaim
  const tid = tenant === 'tid' ? text('tid') : undefined
  return tid === undefined || issuer.includes(tid) ? raw : `${tid}:${raw}`
}

function checkTenant(
  { name, preset, allowedTenants }: OidcConfig,
  text: (name: string) => string | undefined,
): void {
  if (allowedTenants.length === 0) return
  const claim = (preset === undefined ? undefined : presets[preset].tenantClaim) ?? 'tid'
  const tenant = text(claim)
  if (tenant !== undefined && allowedTenants.includes(tenant)) return
  throw new SignInRefused(
    `Your account at "${name}" belongs to an organization that is not let in here. Use the account of your organization.`,
    tenant === undefined ? `claim ${claim} is absent` : `${claim} is none of allowedTenants`,
    { reason: 'MatchRuleFailed' },
  )
}

/** An address that its owner never confirmed is a name anyone may claim. */
function provenAddress(config: OidcConfig, claims: Claims): boolean {
  const preset = config.preset === undefined ? undefined : presets[config.preset]
  const said = [verified(claims.email_verified)]
  if (preset?.emailProof) said.push(verified(claims[preset.emailProof]))
  if (said.includes(false)) return false
  if (said.includes(true)) return true
  if (preset === undefined || preset.trustsEmail) return true
  return preset.tenantIssuer === true && ofOwnTenant(config, claims)
}

function verified(claim: unknown): boolean | undefined {
  return claim === undefined ? undefined : claim === true || claim === 'true' || claim === 1 || claim === '1'
}

/** Tenant of everybody's personal accounts at Microsoft: nobody's own. */
const personalTenant = '9188040d-6c67-4c5b-b112-36a304b66dad'

/** Where a single tenant is let in, its administrators, who write addresses, are the gateway's own. */
function ofOwnTenant({ issuer, allowedTenants }: OidcConfig, { tid }: Claims): boolean {
  if (typeof tid !== 'string' || tid === '' || tid === personalTenant) return false
  return allowedTenants.length === 1 || issuer.includes(tid)
}

/** The first of the configured claims that is there. A star stands for a namespace of the provider's own. */
function groupsOf(config: OidcConfig, claims: Claims): readonly string[] {
  const found = findGroups(config, claims)
  const list: unknown[] = Array.isArray(found) ? found : found === undefined ? [] : [found]
  const wanted = new Set(config.groups)
  const groups = list
    .filter((group): group is string => typeof group === 'string' && group.length <= 255)
    .filter((group) => wanted.size === 0 || wanted.has(group))
  // Some of them would be none: what a rule forbids a group would be allowed.
  if (groups.length > maxGroups) {
    throw new SignInRefused(
      `You are in more groups at "${config.name}" than can be taken over. An administrator has to name those that matter.`,
      `${groups.length} groups, at most ${maxGroups} are kept: list those that policy names in "groups" of identity provider ${config.id}`,
    )
  }
  return groups
}

/** Whether the claims say what groups and who somebody is, as far as this provider is asked for it. */
export function isComplete(config: OidcConfig, claims: Claims): boolean {
  const named = ['email', config.subjectClaim].every((name) => claimAt(claims, name) !== undefined)
  return named && (config.groupsClaims.length === 0 || saysGroups(config, claims))
}

/** Whether the claims say what groups somebody is in, none of them included. */
export function saysGroups(config: OidcConfig, claims: Claims): boolean {
  return findGroups(config, claims) !== undefined
}

function findGroups({ groupsClaims }: OidcConfig, claims: Claims): unknown {
  return groupsClaims
    .map((path) => (path.startsWith('*/') ? namespaced(claims, path.slice(1)) : claimAt(claims, path)))
    .find((value) => Array.isArray(value) || typeof value === 'string')
}

function namespaced(claims: Claims, suffix: string): unknown {
  const name = Object.keys(claims).find((each) => /^https?:\/\//.test(each) && each.endsWith(suffix))
  return name === undefined ? undefined : claims[name]
}
