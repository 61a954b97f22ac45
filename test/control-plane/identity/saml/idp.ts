import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, randomUUID, sign as signData } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { SignedXml } from 'xml-crypto'

/** A stand-in SAML identity provider that writes and signs real responses. */
export interface SamlIdp {
  readonly entityId: string
  readonly certificate: string
  metadata(over?: { wantSigned?: boolean; certificates?: string[]; validUntil?: string }): string
  /** The request that a redirect to us carries. */
  request(url: string): AuthnRequest
  /** A response to it, signed as told; base64. */
  respond(request: AuthnRequest, over?: Over): string
  /** The same before base64, for attacks. */
  xml(request: AuthnRequest, over?: Over): string
  /** The query of a signed LogoutRequest by HTTP-Redirect to `destination`. */
  logoutQuery(destination: string, over?: LogoutOver): string
  sign(xml: string, xpath: string, algorithms?: { signature?: string; digest?: string }): string
}

export interface AuthnRequest {
  readonly id: string
  readonly acs: string
  readonly issuer: string
  readonly destination: string
  readonly relayState: string
  readonly xml: string
  readonly query: URLSearchParams
}

export interface Over {
  readonly assertionId?: string
  readonly nameId?: string
  readonly nameIdFormat?: string
  readonly issuer?: string
  readonly audience?: string
  readonly recipient?: string
  readonly destination?: string | null
  readonly inResponseTo?: string
  readonly subjectInResponseTo?: string
  readonly notBefore?: string
  readonly notOnOrAfter?: string
  readonly confirmationEnd?: string | null
  readonly sessionEnd?: string
  readonly status?: string
  readonly method?: string
  readonly conditions?: string
  readonly authnStatement?: string
  readonly attributes?: Readonly<Record<string, readonly string[]>>
  readonly sign?: 'assertion' | 'response' | 'both' | 'none'
  readonly algorithms?: { signature?: string; digest?: string }
}

export interface LogoutOver {
  readonly id?: string
  readonly nameId?: string
  readonly issuer?: string
  readonly issued?: number
  readonly notOnOrAfter?: string
  readonly relayState?: string
  readonly algorithm?: string
  readonly root?: string
  readonly key?: string
}

export const emailAddress = 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress'
export const persistent = 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent'
const success = 'urn:oasis:names:tc:SAML:2.0:status:Success'
const bearer = 'urn:oasis:names:tc:SAML:2.0:cm:bearer'

/** A self-signed certificate and its key, PEM. */
export function keyPair(bits = 2048): { key: string; certificate: string } {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: bits })
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const folder = mkdtempSync(join(tmpdir(), 'saml-idp-'))
  try {
    writeFileSync(join(folder, 'key.pem'), key, { mode: 0o600 })
    const options = [
      'req',
      '-x509',
      '-new',
      '-key',
      join(folder, 'key.pem'),
      '-subj',
      '/CN=idp',
      '-days',
      '2',
    ]
    execFileSync('openssl', [...options, '-out', join(folder, 'cert.pem')], { stdio: 'ignore' })
    return { key, certificate: readFileSync(join(folder, 'cert.pem'), 'utf8') }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

let usual: ReturnType<typeof keyPair> | undefined
/** The key of every stand-in that is not given one. */
const usualPair = (): ReturnType<typeof keyPair> => {
  usual ??= keyPair()
  return usual
}

export function createSamlIdp(pair = usualPair(), entityId = 'https://idp.example/saml'): SamlIdp {
  const sign: SamlIdp['sign'] = (xml, xpath, { signature, digest } = {}) => {
    const signer = new SignedXml({
      privateKey: pair.key,
      publicCert: pair.certificate,
      signatureAlgorithm: signature ?? 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
      canonicalizationAlgorithm: 'http://www.w3.org/2001/10/xml-exc-c14n#',
    })
    signer.addReference({
      xpath,
      digestAlgorithm: digest ?? 'http://www.w3.org/2001/04/xmlenc#sha256',
      transforms: [
        'http://www.w3.org/2000/09/xmldsig#enveloped-signature',
        'http://www.w3.org/2001/10/xml-exc-c14n#',
      ],
    })
    signer.computeSignature(xml, {
      location: { reference: `${xpath}/*[local-name(.)='Issuer']`, action: 'after' },
    })
    return signer.getSignedXml()
  }
  const xml: SamlIdp['xml'] = (request, over = {}) => {
    const { sign: what = 'assertion' } = over
    let text = unsigned(request, entityId, over)
    const assertion = "//*[local-name(.)='Response']/*[local-name(.)='Assertion']"
    if (what === 'assertion' || what === 'both') text = sign(text, assertion, over.algorithms)
    if (what === 'response' || what === 'both') {
      text = sign(text, "/*[local-name(.)='Response']", over.algorithms)
    }
    return text
  }
  return {
    entityId,
    certificate: pair.certificate,
    sign,
    xml,
    respond: (request, over) => Buffer.from(xml(request, over)).toString('base64'),
    logoutQuery: (destination, over = {}) => {
      const { root = 'LogoutRequest', algorithm = 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256' } = over
      const end = over.notOnOrAfter === undefined ? '' : ` NotOnOrAfter="${over.notOnOrAfter}"`
      const issued = new Date(Date.now() + (over.issued ?? 0)).toISOString()
      const text = `<samlp:${root} xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="${over.id ?? `_l${randomUUID()}`}" Version="2.0" IssueInstant="${issued}" Destination="${destination}"${end}><saml:Issuer>${over.issuer ?? entityId}</saml:Issuer><saml:NameID>${over.nameId ?? 'Ann@Example.com'}</saml:NameID><samlp:SessionIndex>s1</samlp:SessionIndex></samlp:${root}>`
      const query = new URLSearchParams({ SAMLRequest: deflateRawSync(text).toString('base64') })
      if (over.relayState !== undefined) query.set('RelayState', over.relayState)
      query.set('SigAlg', algorithm)
      const signature = signData('RSA-SHA256', Buffer.from(query.toString()), over.key ?? pair.key)
      return `${query}&Signature=${encodeURIComponent(signature.toString('base64'))}`
    },
    request: (url) => {
      const { searchParams: query } = new URL(url)
      const sent = inflateRawSync(Buffer.from(query.get('SAMLRequest') ?? '', 'base64')).toString()
      const of = (pattern: RegExp): string => pattern.exec(sent)?.[1] ?? ''
      return {
        id: of(/ ID="([^"]*)"/),
        acs: of(/AssertionConsumerServiceURL="([^"]*)"/),
        issuer: of(/Issuer[^>]*>([^<]*)</),
        destination: of(/Destination="([^"]*)"/),
        relayState: query.get('RelayState') ?? '',
        xml: sent,
        query,
      }
    },
    metadata: ({ wantSigned = false, certificates = [pair.certificate], validUntil } = {}) =>
      `<?xml version="1.0" encoding="UTF-8"?>
<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="${entityId}"${validUntil ? ` validUntil="${validUntil}"` : ''}>
<md:IDPSSODescriptor WantAuthnRequestsSigned="${wantSigned}" protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
${certificates.map((each) => `<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>${each.replace(/-----[^-]*-----|\s/g, '')}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>`).join('\n')}
<md:SingleLogoutService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="https://idp.example/slo"/>
<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://idp.example/sso/post"/>
<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="https://idp.example/sso"/>
</md:IDPSSODescriptor></md:EntityDescriptor>`,
  }
}

function unsigned(request: AuthnRequest, entityId: string, over: Over): string {
  const at = (ms: number): string => new Date(Date.now() + ms).toISOString()
  const end = over.notOnOrAfter ?? at(300_000)
  const destination = over.destination === undefined ? request.acs : over.destination
  const confirmationEnd = over.confirmationEnd === undefined ? end : over.confirmationEnd
  const attributes = Object.entries(
    over.attributes ?? { email: ['Ann@Example.com'], displayName: ['Ann Corp'], groups: ['eng', 'ops'] },
  )
    .map(
      ([name, values]) =>
        `<saml:Attribute Name="${name}">${values.map((value) => `<saml:AttributeValue>${value}</saml:AttributeValue>`).join('')}</saml:Attribute>`,
    )
    .join('')
  const conditions =
    over.conditions ??
    `<saml:Conditions NotBefore="${over.notBefore ?? at(-5_000)}" NotOnOrAfter="${end}"><saml:AudienceRestriction><saml:Audience>${over.audience ?? request.issuer}</saml:Audience></saml:AudienceRestriction></saml:Conditions>`
  const statement =
    over.authnStatement ??
    `<saml:AuthnStatement AuthnInstant="${at(0)}"${over.sessionEnd ? ` SessionNotOnOrAfter="${over.sessionEnd}"` : ''}><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>`
  return `<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_r${request.id}" Version="2.0" IssueInstant="${at(0)}"${destination === null ? '' : ` Destination="${destination}"`} InResponseTo="${over.inResponseTo ?? request.id}"><saml:Issuer>${over.issuer ?? entityId}</saml:Issuer><samlp:Status><samlp:StatusCode Value="${over.status ?? success}"/></samlp:Status><saml:Assertion ID="${over.assertionId ?? `_a${request.id}`}" Version="2.0" IssueInstant="${at(0)}"><saml:Issuer>${over.issuer ?? entityId}</saml:Issuer><saml:Subject><saml:NameID Format="${over.nameIdFormat ?? emailAddress}">${over.nameId ?? 'Ann@Example.com'}</saml:NameID><saml:SubjectConfirmation Method="${over.method ?? bearer}"><saml:SubjectConfirmationData${confirmationEnd === null ? '' : ` NotOnOrAfter="${confirmationEnd}"`} Recipient="${over.recipient ?? request.acs}" InResponseTo="${over.subjectInResponseTo ?? request.id}"/></saml:SubjectConfirmation></saml:Subject>${conditions}${statement}<saml:AttributeStatement>${attributes}</saml:AttributeStatement></saml:Assertion></samlp:Response>`
}
