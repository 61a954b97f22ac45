import { randomBytes } from 'node:crypto'
import {
  type CacheProvider,
  generateServiceProviderMetadata,
  type Profile,
  SAML,
  ValidateInResponseTo,
} from '@node-saml/node-saml'
import type { Clock } from '../../../../shared/clock.ts'
import type { SamlConfig } from '../../config/schema.ts'
import { createGuardedFetch } from '../guarded-fetch.ts'
import { type ExternalProvider, SignInRefused } from '../types.ts'
import { mapAssertion } from './claims.ts'
import type { ServiceKey } from './key.ts'
import { readLogoutRequest } from './logout.ts'
import { type IdpMetadata, parseIdpMetadata } from './metadata.ts'
import type { AssertionReplay } from './replay.ts'
import {
  checkShape,
  decodeResponse,
  type Expected,
  ResponseRefused,
  readAssertion,
  skewMs,
} from './response.ts'

export interface SamlDeps {
  readonly clock: Clock
  /** Our own key; made when it is first needed. */
  readonly key: () => Promise<ServiceKey>
  readonly replay: AssertionReplay
  /** Our own origin. */
  readonly issuer: string
}

export interface SamlProvider extends ExternalProvider {
  /** Our metadata document, for the identity provider. */
  serviceMetadata(): Promise<string>
}

const refetchMs = 10 * 60_000
const logoutRefetchMs = 30_000
const requestLifeMs = 10 * 60_000

/**
 * A customer's identity provider over SAML 2.0 (Web Browser SSO: request by HTTP-Redirect, response by HTTP-POST).
 * node-saml verifies signatures and opens what is encrypted; what a response must say besides, and the shape it must
 * have before anything in it is trusted, is checked in response.ts. Throws Error for metadata that can not be used.
 */
export async function createSamlProvider(config: SamlConfig, deps: SamlDeps): Promise<SamlProvider> {
  const { clock, key, replay, issuer } = deps
  const guarded = createGuardedFetch(config.allowedNetworks)
  const base = `${issuer}/idp/${encodeURIComponent(config.id)}`
  const recipient = `${base}/acs`
  const logoutService = `${base}/slo`
  const audience = config.entityId ?? `${base}/metadata`
  const fixed =
    config.metadataXml && (await parseIdpMetadata(config.metadataXml.reveal(), config.idpEntityId))
  let known: { at: number; metadata: Promise<IdpMetadata> } | undefined

  const fetchMetadata = async (url: string): Promise<IdpMetadata> => {
    const { protocol } = new URL(url)
    if (protocol !== 'https:' && config.allowedNetworks.length === 0)
      throw new Error('metadataUrl is not https')
    const response = await guarded(url, {
      headers: { accept: 'application/samlmetadata+xml, application/xml' },
    })
    if (response.status !== 200) throw new Error(`metadata answered ${response.status}`)
    return parseIdpMetadata(await response.text(), config.idpEntityId)
  }
  /** Not older than `maxAgeMs`; where the provider is away for a moment, the last document serves on. */
  const fetched = (maxAgeMs: number): Promise<IdpMetadata> => {
    const before = known
    if (before && clock.now() - before.at < maxAgeMs) return before.metadata
    const metadata = fetchMetadata(config.metadataUrl ?? '').catch((error: unknown) => {
      if (before) return before.metadata
      throw error
    })
    const entry = { at: clock.now(), metadata }
    known = entry
    metadata.catch(() => {
      if (known === entry) known = undefined
    })
    return metadata
  }
  const metadata = async (maxAgeMs: number): Promise<IdpMetadata> => {
    try {
      const current = fixed ?? (await fetched(maxAgeMs))
      if (current.validUntil === undefined || current.validUntil > clock.now()) return current
    } catch (error) {
      throw unreachable(error)
    }
    throw unreachable(new Error('it has expired (validUntil)'))
  }
  const unreachable = (error: unknown): SignInRefused =>
    new SignInRefused(
      `"${config.name}" can not be reached right now. Try again in a minute.`,
      `metadata: ${message(error)}`,
      { cause: error, reason: 'NoDataFound' },
    )

  const signs = (idp: IdpMetadata): boolean => config.signRequests ?? idp.wantsSignedRequests
  /** node-saml for one sign-in: it knows one request, and no other will do. */
  const saml = (idp: IdpMetadata, requestId: string, own?: ServiceKey): SAML =>
    new SAML({
      entryPoint: idp.singleSignOnUrl,
      ...(idp.singleLogoutUrl === undefined ? {} : { logoutUrl: idp.singleLogoutUrl }),
      idpIssuer: idp.entityId,
      idpCert: [...idp.certificates],
      issuer: audience,
      audience,
      callbackUrl: recipient,
      identifierFormat: config.nameIdFormat ?? null,
      // What a provider asks of its people is the provider's to decide; naming "password" breaks sign-in by passkey.
      disableRequestedAuthnContext: true,
      wantAssertionsSigned: config.wantAssertionsSigned,
      wantAuthnResponseSigned: config.wantResponseSigned,
      ...(own
        ? { decryptionPvk: own.privateKey, privateKey: own.privateKey, publicCert: own.certificate }
        : {}),
      signatureAlgorithm: 'sha256',
      digestAlgorithm: 'sha256',
      acceptedClockSkewMs: skewMs,
      validateInResponseTo: ValidateInResponseTo.always,
      requestIdExpirationPeriodMs: requestLifeMs,
      cacheProvider: oneRequest(requestId),
      generateUniqueId: () => requestId,
    })

  return {
    id: config.id,
    begin: async () => {
      const idp = await metadata(refetchMs)
      const state = randomBytes(32).toString('base64url')
      // xs:ID: no digit in front.
      const requestId = `_${randomBytes(20).toString('hex')}`
      const own = signs(idp) ? await key() : undefined
      const url = await saml(idp, requestId, own).getAuthorizeUrlAsync(state, undefined, {})
      return { url: new URL(url), check: { state, requestId } }
    },
    finish: async (_callback, { requestId = '' }, answer) => {
      const refused = (detail: string, reason: 'InvalidSignature' | 'ConditionFailed' | 'NoDataFound') =>
        new SignInRefused(`The answer of "${config.name}" could not be verified.`, detail, { reason })
      if (answer === undefined) throw refused('there is no SAMLResponse', 'NoDataFound')
      // Read anew, so that a key that the provider changed a second ago is there.
      const idp = await metadata(0)
      const expected: Expected = { audience, recipient, issuer: idp.entityId, requestId, now: clock.now() }
      try {
        const xml = decodeResponse(answer)
        const { encrypted } = await checkShape(xml, expected)
        const SAMLResponse = Buffer.from(xml).toString('base64')
        const own = encrypted ? await key() : undefined
        const { profile } = await saml(idp, requestId, own).validatePostResponseAsync({ SAMLResponse })
        const signed = profile?.getAssertionXml?.()
        if (signed === undefined) throw new ResponseRefused('signature', 'has no signed assertion')
        const assertion = await readAssertion(signed, expected)
        if (!replay.use(assertion.issuer, assertion.id, assertion.expiresAt)) {
          throw new ResponseRefused('content', 'was used before')
        }
        return mapAssertion(config, assertion)
      } catch (error) {
        if (error instanceof SignInRefused) throw error
        const proven =
          error instanceof ResponseRefused
            ? error.kind === 'content'
            : /audience|expired|not yet valid|subject confirmation|InResponseTo|NotBefore|NotOnOrAfter/i.test(
                message(error),
              )
        throw refused(`SAML response ${message(error)}`, proven ? 'ConditionFailed' : 'InvalidSignature')
      }
    },
    logoutRequest: async (query) => {
      const refused = (detail: string, reason: 'InvalidSignature' | 'ConditionFailed') =>
        new SignInRefused(`The request of "${config.name}" could not be verified.`, detail, { reason })
      // Anybody can bring a request: a key that was changed a moment ago may wait, the provider is not asked for each.
      const idp = await metadata(logoutRefetchMs)
      try {
        const request = await readLogoutRequest(query, {
          issuer: idp.entityId,
          recipient: logoutService,
          certificates: idp.certificates,
          now: clock.now(),
        })
        if (!replay.use(idp.entityId, `logout:${request.id}`, request.expiresAt)) {
          throw new ResponseRefused('content', 'was used before')
        }
        if (idp.singleLogoutUrl === undefined) return { nameId: request.nameId }
        const answer = await saml(
          idp,
          `_${randomBytes(20).toString('hex')}`,
          await key(),
        ).getLogoutResponseUrlAsync({ ID: request.id } as Profile, request.relayState ?? '', {}, true)
        return { nameId: request.nameId, answer: new URL(answer) }
      } catch (error) {
        if (!(error instanceof ResponseRefused)) throw error
        const proven = error.kind === 'content'
        throw refused(`SAML logout request ${error.message}`, proven ? 'ConditionFailed' : 'InvalidSignature')
      }
    },
    serviceMetadata: async () => {
      const { privateKey, certificate } = await key()
      const document = generateServiceProviderMetadata({
        issuer: audience,
        callbackUrl: recipient,
        logoutCallbackUrl: logoutService,
        wantAssertionsSigned: config.wantAssertionsSigned,
        identifierFormat: config.nameIdFormat ?? null,
        privateKey,
        publicCerts: certificate,
        decryptionPvk: privateKey,
        decryptionCert: certificate,
        // The same document at each fetch: some providers compare.
        generateUniqueId: () => '_metadata',
      })
      // The library writes HTTP-POST there, which ours is not.
      return document.replace(
        /(<SingleLogoutService Binding="urn:oasis:names:tc:SAML:2\.0:bindings:HTTP-)POST"/,
        '$1Redirect"',
      )
    },
    close: () => guarded.close(),
  }
}

/** The store of node-saml, with the one request of this sign-in in it. */
function oneRequest(requestId: string): CacheProvider {
  const since = new Date().toISOString()
  return {
    saveAsync: async () => null,
    getAsync: async (id) => (id === requestId ? since : null),
    removeAsync: async () => null,
  }
}

/** For the log, one line and short: a parser quotes what it could not read. */
function message(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]?.slice(0, 200) ?? ''
}
