import { X509Certificate } from 'node:crypto'
import { attribute, children, type Element, elements, ns, parseXml, textOf } from './document.ts'

/** What is needed of an identity provider's metadata (saml-metadata-2.0 §2.4.3). */
export interface IdpMetadata {
  readonly entityId: string
  /** Where the browser is sent, by the HTTP-Redirect binding. */
  readonly singleSignOnUrl: string
  /** Where the answer to a logout request goes, by the same binding; undefined where the provider has no such place. */
  readonly singleLogoutUrl: string | undefined
  /** Signing certificates, PEM: several while the provider changes its key. */
  readonly certificates: readonly string[]
  readonly wantsSignedRequests: boolean
  /** Milliseconds since the epoch; undefined where the document has no end. */
  readonly validUntil: number | undefined
}

const redirectBinding = 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect'
const maxCertificates = 20
const minRsaBits = 2048

/** Throws Error whose message says what is wrong with the document and where to get a better one. */
export async function parseIdpMetadata(xml: string, wanted?: string): Promise<IdpMetadata> {
  const root = await parseXml(xml).catch((error: unknown) => {
    throw new Error(`is no SAML metadata: it ${error instanceof Error ? error.message : String(error)}`)
  })
  const found = elements(root)
    .filter(({ localName, namespaceURI }) => localName === 'EntityDescriptor' && namespaceURI === ns.metadata)
    .flatMap((entity) =>
      children(entity, ns.metadata, 'IDPSSODescriptor').map((descriptor) => ({ entity, descriptor })),
    )
    .filter(({ entity }) => wanted === undefined || attribute(entity, 'entityID') === wanted)
  const [first] = found
  if (!first) {
    throw new Error(
      wanted === undefined
        ? 'describes no identity provider, take the document that the provider publishes about itself'
        : `describes no identity provider named ${wanted}`,
    )
  }
  if (found.length > 1) throw new Error('describes several identity providers, say which by idpEntityId')
  return read(first.entity, first.descriptor)
}

function read(entity: Element, descriptor: Element): IdpMetadata {
  const entityId = attribute(entity, 'entityID')
  if (entityId === undefined) throw new Error('has no entityID')
  const service = children(descriptor, ns.metadata, 'SingleSignOnService').find(
    (each) => attribute(each, 'Binding') === redirectBinding,
  )
  const singleSignOnUrl = service && attribute(service, 'Location')
  if (singleSignOnUrl === undefined || !/^https?:$/.test(URL.parse(singleSignOnUrl)?.protocol ?? '')) {
    throw new Error('offers no single sign-on by HTTP-Redirect, switch that binding on at the provider')
  }
  const logout = children(descriptor, ns.metadata, 'SingleLogoutService').find(
    (each) => attribute(each, 'Binding') === redirectBinding,
  )
  const singleLogoutUrl = logout && (attribute(logout, 'ResponseLocation') ?? attribute(logout, 'Location'))
  const certificates = children(descriptor, ns.metadata, 'KeyDescriptor')
    .filter((key) => (attribute(key, 'use') ?? 'signing') === 'signing')
    .flatMap((key) => elements(key))
    .filter(({ localName, namespaceURI }) => localName === 'X509Certificate' && namespaceURI === ns.signature)
    .map((element) => certificate(textOf(element) ?? ''))
  if (certificates.length === 0) throw new Error('holds no signing certificate')
  const until = [entity, descriptor]
    .map((element) => attribute(element, 'validUntil'))
    .filter((value) => value !== undefined)
    .map((value) => Date.parse(value))
  if (until.some(Number.isNaN)) throw new Error('has a validUntil that is no time')
  return {
    entityId,
    singleSignOnUrl,
    singleLogoutUrl: /^https?:$/.test(URL.parse(singleLogoutUrl ?? '')?.protocol ?? '')
      ? singleLogoutUrl
      : undefined,
    certificates: [...new Set(certificates)].slice(0, maxCertificates),
    wantsSignedRequests: /^(true|1)$/.test(attribute(descriptor, 'WantAuthnRequestsSigned') ?? ''),
    validUntil: until.length > 0 ? Math.min(...until) : undefined,
  }
}

/** Its dates are not looked at: SAML takes the key, and what vouches for it is the metadata (saml-metadata §2.4.1.1). */
function certificate(text: string): string {
  let parsed: X509Certificate
  try {
    parsed = new X509Certificate(Buffer.from(text, 'base64'))
  } catch {
    throw new Error('holds a certificate that can not be read')
  }
  const { asymmetricKeyType, asymmetricKeyDetails } = parsed.publicKey
  if (asymmetricKeyType !== 'rsa' || (asymmetricKeyDetails?.modulusLength ?? 0) < minRsaBits) {
    throw new Error(
      `holds a signing key that is not RSA of at least ${minRsaBits} bits, have the provider sign with such a key`,
    )
  }
  return parsed.toString()
}
