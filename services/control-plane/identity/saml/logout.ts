import { verify } from 'node:crypto'
import { inflateRawSync } from 'node:zlib'
import { attribute, ns, onlyChild, parseXml, textOf } from './document.ts'
import { ResponseRefused, skewMs, timeOf } from './response.ts'

export interface LogoutExpected {
  /** The provider's entityID. */
  readonly issuer: string
  /** URL of our single logout service. */
  readonly recipient: string
  /** Signing certificates of the provider, PEM. */
  readonly certificates: readonly string[]
  /** Milliseconds since the epoch. */
  readonly now: number
}

export interface LogoutRequest {
  readonly id: string
  readonly nameId: string
  readonly relayState: string | undefined
  /** From when on it would be refused for its age, ms since the epoch. */
  readonly expiresAt: number
}

const maxChars = 64 * 1024
const lifeMs = 5 * 60_000
const algorithms: Readonly<Record<string, string>> = {
  'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256': 'RSA-SHA256',
  'http://www.w3.org/2001/04/xmldsig-more#rsa-sha512': 'RSA-SHA512',
}

/**
 * A LogoutRequest by HTTP-Redirect (saml-profiles §4.4.3.3, saml-bindings §3.4.4.1): signed, always. `query` is the
 * request's own, as the signature covers what was sent and not what it decodes to. Throws ResponseRefused.
 */
export async function readLogoutRequest(query: string, expected: LogoutExpected): Promise<LogoutRequest> {
  const { request, relayState } = verified(query, expected.certificates)
  const root = await parseXml(request).catch((error: unknown) => {
    throw refused(error instanceof Error ? error.message.slice(0, 200) : String(error))
  })
  if (root.localName !== 'LogoutRequest' || root.namespaceURI !== ns.protocol) throw refused('is none')
  if (attribute(root, 'Version') !== '2.0') throw refused('is not of SAML 2.0')
  const id = attribute(root, 'ID')
  if (id === undefined || id.length > 256) throw refused('has no usable ID')
  const issuer = onlyChild(root, ns.assertion, 'Issuer')
  if (!issuer || textOf(issuer) !== expected.issuer) throw refused('is of another issuer')
  if (attribute(root, 'Destination') !== expected.recipient) throw refused('is destined for another address')
  const issued = timeOf(root, 'IssueInstant', Number.NaN)
  const end = Math.min(timeOf(root, 'NotOnOrAfter', Number.POSITIVE_INFINITY), issued + lifeMs)
  if (!(issued - skewMs <= expected.now && expected.now < end + skewMs)) {
    throw refused('is not of now, compare the clocks of both sides')
  }
  const nameIdElement = onlyChild(root, ns.assertion, 'NameID')
  const nameId = nameIdElement && textOf(nameIdElement)
  if (!nameId || nameId.length > 255) throw refused('has no usable NameID')
  return { id, nameId, relayState, expiresAt: end + skewMs }
}

function verified(
  query: string,
  certificates: readonly string[],
): { request: string; relayState: string | undefined } {
  const raw = new Map<string, string>()
  for (const pair of query.split('&')) {
    const [name = '', ...value] = pair.split('=')
    if (raw.has(name)) throw unproven('names a parameter twice')
    raw.set(name, value.join('='))
  }
  const value = (name: string): string | undefined => {
    const text = raw.get(name)
    if (text === undefined) return undefined
    try {
      return decodeURIComponent(text.replaceAll('+', ' '))
    } catch {
      throw unproven(`has a ${name} that can not be decoded`)
    }
  }
  const message = value('SAMLRequest')
  const signature = value('Signature')
  const algorithm = algorithms[value('SigAlg') ?? '']
  if (message === undefined) throw refused('is missing')
  if (signature === undefined) throw unproven('is not signed')
  if (algorithm === undefined) throw unproven('is signed with an algorithm that is not accepted')
  const covered = ['SAMLRequest', 'RelayState', 'SigAlg']
    .filter((name) => raw.has(name))
    .map((name) => `${name}=${raw.get(name)}`)
    .join('&')
  const bytes = Buffer.from(signature, 'base64')
  if (!certificates.some((certificate) => verify(algorithm, Buffer.from(covered), certificate, bytes))) {
    throw unproven('has a signature of no key of the provider')
  }
  try {
    const inflated = inflateRawSync(Buffer.from(message, 'base64'), { maxOutputLength: maxChars })
    return { request: inflated.toString('utf8'), relayState: value('RelayState') }
  } catch {
    throw refused('can not be read')
  }
}

const refused = (message: string): ResponseRefused => new ResponseRefused('content', message)
const unproven = (message: string): ResponseRefused => new ResponseRefused('signature', message)
