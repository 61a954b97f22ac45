/** Claims of a person, as our own tokens carry them. */
export type Claims = Readonly<Record<string, unknown>>

const expression =
  /\$\{(?:oidc\.identityToken\.decode\.payload\.([^{}$]{1,100})|saml\.response\.(?:(issuer|subject\.nameId)|attributes\[(?:'([^'"{}$]{1,200})'|"([^'"{}$]{1,200})")\]))\}/g
const anyExpression = /\$\{[^}]*\}?/

/** Whether a text holds expressions; `broken`: one that nothing resolves. */
export function isDynamic(text: string): 'literal' | 'dynamic' | 'broken' {
  const rest = text.replace(expression, '')
  if (anyExpression.test(rest)) return 'broken'
  return rest === text ? 'literal' : 'dynamic'
}

/**
 * The values of a text with `${oidc.identityToken.decode.payload.<claim>}`, `${saml.response.subject.nameId}`,
 * `${saml.response.issuer}` or `${saml.response.attributes['n']}` in it: one for each value of a claim with several. Undefined where a claim is absent or is neither a text, a number, a boolean nor a list of those.
 */
export function resolve(text: string, claims: Claims): readonly string[] | undefined {
  let values: readonly string[] = ['']
  let at = 0
  for (const match of text.matchAll(expression)) {
    const found = valuesOf(claims, claimOf(match))
    if (!found) return undefined
    const literal = text.slice(at, match.index)
    values = values.flatMap((value) => found.map((each) => value + literal + each))
    if (values.length > maxValues) return undefined
    at = match.index + match[0].length
  }
  const rest = text.slice(at)
  return values.map((value) => value + rest)
}

/** Exactly one value that is not empty, else undefined. */
export function resolveOne(text: string, claims: Claims): string | undefined {
  const values = resolve(text, claims)
  return values?.length === 1 && values[0] !== '' ? values[0] : undefined
}

const maxValues = 200

/** What an expression reads. That of SAML is kept under its own text, quoted by ' whatever the expression has. */
function claimOf([, claim, part, single, double]: RegExpMatchArray): string {
  if (claim !== undefined) return claim
  return part === undefined ? `saml.response.attributes['${single ?? double}']` : `saml.response.${part}`
}

function valuesOf(claims: Claims, name: string): readonly string[] | undefined {
  const value = Object.hasOwn(claims, name) ? claims[name] : undefined
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  const plain = list.every((each) => ['string', 'number', 'boolean'].includes(typeof each))
  return plain && list.length > 0 && list.length <= maxValues ? list.map(String) : undefined
}
