import { attribute, children, type Element, elements, ns, onlyChild, parseXml, textOf } from './document.ts'

/** What a response and its assertion must say for this sign-in, and no other. */
export interface Expected {
  /** Ours: the entityID that the provider knows the gateway by. */
  readonly audience: string
  /** URL of our assertion consumer service. */
  readonly recipient: string
  /** The provider's entityID. */
  readonly issuer: string
  /** ID of the request that this answers. */
  readonly requestId: string
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** What a verified assertion says. */
export interface Assertion {
  readonly id: string
  readonly issuer: string
  readonly nameId: string
  readonly nameIdFormat: string
  readonly attributes: ReadonlyMap<string, readonly string[]>
  /** From when on it would be refused for its age, ms since the epoch. */
  readonly expiresAt: number
}

/** Why a response is refused. `signature`: it is not proven; `content`: it is, and is not for this sign-in. */
export class ResponseRefused extends Error {
  readonly kind: 'signature' | 'content'

  constructor(kind: 'signature' | 'content', message: string) {
    super(message)
    this.kind = kind
  }
}

export const skewMs = 60_000
export const maxResponseChars = 350_000
const maxAttributes = 500
const maxValues = 1_000
const success = 'urn:oasis:names:tc:SAML:2.0:status:Success'
const bearer = 'urn:oasis:names:tc:SAML:2.0:cm:bearer'

/** RFC 9231 names. SHA-1 and HMAC are none of them: the one can be forged, the other would take our own key. */
const signatureMethods = new Set([
  'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
  'http://www.w3.org/2001/04/xmldsig-more#rsa-sha512',
  'http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1',
])
const digestMethods = new Set([
  'http://www.w3.org/2001/04/xmlenc#sha256',
  'http://www.w3.org/2001/04/xmlenc#sha512',
])
const transforms = new Set([
  'http://www.w3.org/2000/09/xmldsig#enveloped-signature',
  'http://www.w3.org/2001/10/xml-exc-c14n#',
  'http://www.w3.org/2001/10/xml-exc-c14n#WithComments',
])

/** The posted form value as XML. Throws ResponseRefused. */
export function decodeResponse(value: string): string {
  const text = value.replace(/\s+/g, '')
  if (text.length > maxResponseChars) throw content('is too large')
  if (text === '' || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) throw content('is not base64')
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(text, 'base64'))
  } catch {
    throw content('is not UTF-8')
  }
}

/**
 * The shape of a response, looked at before any signature is: one response, one assertion directly in it, no id twice,
 * signatures only where they belong and of algorithms that hold. A document that passes has no second place from which
 * an assertion could be read (XML signature wrapping). Throws ResponseRefused.
 */
export async function checkShape(xml: string, expected: Expected): Promise<{ encrypted: boolean }> {
  const root = await parse(xml)
  if (root.localName !== 'Response' || root.namespaceURI !== ns.protocol) throw content('is no Response')
  if (attribute(root, 'Version') !== '2.0') throw content('is not of SAML 2.0')
  const all = elements(root)
  const status = onlyChild(root, ns.protocol, 'Status')
  const code = status && attribute(onlyChild(status, ns.protocol, 'StatusCode') ?? status, 'Value')
  if (code !== success) throw content(`has status ${lastPart(code)}`)
  const assertions = all.filter(({ localName }) => /^(Encrypted)?Assertion$/.test(localName))
  const [assertion] = assertions
  if (!assertion || assertions.length > 1) throw content(`has ${assertions.length} assertions`)
  if (assertion.parentNode !== root || assertion.namespaceURI !== ns.assertion) {
    throw content('has its assertion in another place than the response')
  }
  if (all.filter(({ localName }) => localName === 'Response').length > 1)
    throw content('holds another response')
  uniqueIds(all)
  checkSignatures(all, new Set([root, assertion]))
  const issuer = onlyChild(root, ns.assertion, 'Issuer')
  if (issuer && textOf(issuer) !== expected.issuer) throw content('is of another issuer')
  if (attribute(root, 'InResponseTo') !== expected.requestId) throw content('answers another request')
  const destination = attribute(root, 'Destination')
  // saml-bindings §3.5.5.2: there wherever the message is signed.
  const signed = children(root, ns.signature, 'Signature').length > 0
  if (destination === undefined ? signed : destination !== expected.recipient) {
    throw content('is destined for another address')
  }
  return { encrypted: assertion.localName === 'EncryptedAssertion' }
}

/** Reads what the signature covers (saml-profiles §4.1.4.3, saml-core §2.5.1). Throws ResponseRefused. */
export async function readAssertion(signedXml: string, expected: Expected): Promise<Assertion> {
  const root = await parse(signedXml)
  if (root.localName !== 'Assertion' || root.namespaceURI !== ns.assertion)
    throw content('signs no assertion')
  if (attribute(root, 'Version') !== '2.0') throw content('is not of SAML 2.0')
  uniqueIds(elements(root))
  const id = attribute(root, 'ID')
  if (id === undefined || id.length > 256) throw content('has no usable ID')
  const issuer = only(root, 'Issuer')
  if (textOf(issuer) !== expected.issuer) throw content('is of another issuer')
  const subject = only(root, 'Subject')
  const nameIdElement = only(subject, 'NameID')
  const nameId = textOf(nameIdElement)
  if (!nameId || nameId.length > 255) throw content('has no usable NameID')
  const confirmed = confirmation(subject, expected)
  const conditions = only(root, 'Conditions')
  const end = withinTimes(conditions, expected.now)
  const restrictions = children(conditions, ns.assertion, 'AudienceRestriction')
  const meant = (restriction: Element): boolean =>
    children(restriction, ns.assertion, 'Audience').some((audience) => textOf(audience) === expected.audience)
  if (restrictions.length === 0 || !restrictions.every(meant)) throw content('is meant for another audience')
  const statements = children(root, ns.assertion, 'AuthnStatement')
  if (statements.length === 0) throw content('does not say that anybody signed in')
  for (const statement of statements) {
    if (timeOf(statement, 'SessionNotOnOrAfter', Number.POSITIVE_INFINITY) + skewMs <= expected.now) {
      throw content('is of a session that has ended')
    }
  }
  return {
    id,
    issuer: expected.issuer,
    nameId,
    nameIdFormat: attribute(nameIdElement, 'Format') ?? '',
    attributes: attributesOf(root),
    expiresAt: Math.min(confirmed, end) + skewMs,
  }
}

/** When the bearer confirmation that fits ends; ms since the epoch. */
function confirmation(subject: Element, { recipient, requestId, now }: Expected): number {
  let why = 'has no bearer confirmation'
  for (const each of children(subject, ns.assertion, 'SubjectConfirmation')) {
    const data = onlyChild(each, ns.assertion, 'SubjectConfirmationData')
    if (attribute(each, 'Method') !== bearer || !data) continue
    if (attribute(data, 'Recipient') !== recipient) why = 'is for another recipient'
    else if (attribute(data, 'InResponseTo') !== requestId) why = 'answers another request'
    else if (!data.hasAttribute('NotOnOrAfter')) why = 'has a confirmation without end'
    else return withinTimes(data, now)
  }
  throw content(why)
}

/** The end of an element's validity, infinity where it has none. Throws where `now` is outside of it. */
function withinTimes(element: Element, now: number): number {
  const from = timeOf(element, 'NotBefore', Number.NEGATIVE_INFINITY)
  const end = timeOf(element, 'NotOnOrAfter', Number.POSITIVE_INFINITY)
  if (from - skewMs > now) throw content('is not valid yet, compare the clocks of both sides')
  if (end + skewMs <= now) throw content('has expired, compare the clocks of both sides')
  return end
}

export function timeOf(element: Element, name: string, fallback: number): number {
  if (!element.hasAttribute(name)) return fallback
  const value = element.getAttribute(name)
  // saml-core §1.3.3: xs:dateTime in UTC.
  const at = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.test(value) ? Date.parse(value) : Number.NaN
  if (Number.isNaN(at)) throw content(`has a ${name} that is no time`)
  return at
}

function attributesOf(assertion: Element): Map<string, readonly string[]> {
  const found = new Map<string, string[]>()
  let count = 0
  for (const statement of children(assertion, ns.assertion, 'AttributeStatement')) {
    for (const element of children(statement, ns.assertion, 'Attribute')) {
      const name = attribute(element, 'Name')
      if (name === undefined || name.length > 500) continue
      const values = children(element, ns.assertion, 'AttributeValue').map((value) => textOf(value))
      const before = found.get(name) ?? []
      found.set(name, [
        ...before,
        ...values.filter((value): value is string => value !== undefined && value !== ''),
      ])
      count += values.length
    }
  }
  if (found.size > maxAttributes || count > maxValues) throw content('has too many attributes')
  return found
}

function uniqueIds(all: readonly Element[]): void {
  const ids = all.flatMap((element) =>
    ['ID', 'Id', 'id'].map((name) => attribute(element, name)).filter(Boolean),
  )
  if (new Set(ids).size !== ids.length) throw content('uses an ID twice')
}

function checkSignatures(all: readonly Element[], places: ReadonlySet<unknown>): void {
  for (const element of all) {
    if (element.namespaceURI !== ns.signature) continue
    const algorithm = attribute(element, 'Algorithm') ?? ''
    const { localName, parentNode } = element
    if (localName === 'Signature' && !places.has(parentNode))
      throw unproven('has a signature in a strange place')
    if (localName === 'SignatureMethod' && !signatureMethods.has(algorithm)) {
      throw unproven(`is signed with ${lastPart(algorithm)}, which is not accepted; use RSA with SHA-256`)
    }
    // The digest of OAEP is named by the same element inside of EncryptionMethod.
    if (localName === 'DigestMethod' && isOf(parentNode, 'Reference') && !digestMethods.has(algorithm)) {
      throw unproven(`is digested with ${lastPart(algorithm)}, which is not accepted; use SHA-256`)
    }
    if (localName === 'Transform' && !transforms.has(algorithm)) throw unproven('has a strange transform')
  }
}

const isOf = (node: unknown, name: string): boolean => (node as Element).localName === name

function only(parent: Element, name: string): Element {
  const found = onlyChild(parent, ns.assertion, name)
  if (!found) throw content(`has no ${name}`)
  return found
}

async function parse(xml: string): Promise<Element> {
  try {
    return await parseXml(xml)
  } catch (error) {
    throw content(error instanceof Error ? (error.message.split('\n')[0] ?? '').slice(0, 200) : String(error))
  }
}

const content = (message: string): ResponseRefused => new ResponseRefused('content', message)
const unproven = (message: string): ResponseRefused => new ResponseRefused('signature', message)
const lastPart = (name = ''): string => (/[A-Za-z0-9-]{1,40}$/.exec(name) ?? ['nothing'])[0]
