import type { MatchRule, TrustProvider } from '../wire/snapshot.ts'
import type { Principal } from './types.ts'

/** Undefined where the provider attests the user, else why it does not. Names attributes, never a user's values. */
export function attest(provider: TrustProvider, principal: Principal): string | undefined {
  if (provider.identityProvider !== undefined && provider.identityProvider !== principal.identityProvider) {
    return 'the user signed in at another identity provider.'
  }
  // Different attributes must all fit; of one attribute (and key) any one value will do.
  const wanted = new Map<string, MatchRule[]>()
  for (const rule of provider.matchRules) {
    const key = rule.attribute === 'OidcCustom' ? `OidcCustom:${rule.key ?? ''}` : rule.attribute
    const rules = wanted.get(key)
    if (rules) rules.push(rule)
    else wanted.set(key, [rule])
  }
  for (const [key, rules] of wanted) {
    const first = rules[0]
    const values = first ? ruleValues(first, principal) : []
    if (!rules.some((rule) => values.includes(rule.value))) return `no match rule for ${key} fits.`
  }
  return undefined
}

/** What the principal has for a rule's attribute, as texts: of a list, each member. Objects have no text. */
export function ruleValues(rule: Pick<MatchRule, 'attribute' | 'key'>, principal: Principal): string[] {
  switch (rule.attribute) {
    case 'OidcIssuer':
      return [principal.issuer]
    case 'OidcSubject':
      return [principal.subject]
    case 'OidcAudience':
      return claimValues(principal.claims, 'aud')
    case 'OidcCustom':
      return claimValues(principal.claims, rule.key ?? '')
  }
}

/** A claim of a token as texts. Own members alone: "constructor" is no claim. */
export function claimValues(claims: Readonly<Record<string, unknown>>, name: string): string[] {
  const value = Object.hasOwn(claims, name) ? claims[name] : undefined
  const list: unknown[] = Array.isArray(value) ? value : [value]
  return list.filter((item) => ['string', 'number', 'boolean'].includes(typeof item)).map(String)
}
