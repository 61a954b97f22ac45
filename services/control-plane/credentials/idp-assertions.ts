import { decodeJwt } from 'jose'
import * as openid from 'openid-client'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import type { IdpTokenStore, IdpTokens, StoredIdpTokens } from '../identity/idp-tokens.ts'
import type { ExternalProvider } from '../identity/types.ts'
import { Refused } from './issued.ts'
import { safeCode, translate } from './oauth.ts'
import { statusName } from './token-endpoint.ts'

/** Only the person can help, by signing in again. */
export class SignInNeeded extends Refused {}

export interface AssertionAsk {
  readonly idp: string
  readonly subject: string
  /** Issuer of the authorization server that takes the assertion. */
  readonly audience: string
  /** The MCP server. */
  readonly resource: string
  readonly scope: string | undefined
}

export interface IdpAssertions {
  /** Which sign-in of the person is kept; undefined for none. */
  signIn(idp: string, subject: string): string | undefined
  /**
   * An identity assertion (ID-JAG) for the person's kept sign-in: RFC 8693 at the identity provider. Throws SignInNeeded,
   * Refused where it says no, a Fault where a later try may succeed.
   */
  make(ask: AssertionAsk): Promise<string>
}

export interface IdpAssertionsDeps {
  readonly store: IdpTokenStore
  readonly externals: () => ReadonlyMap<string, ExternalProvider>
  readonly clock: Clock
  readonly log: Logger
}

const grantType = 'urn:ietf:params:oauth:grant-type:token-exchange'
const assertionType = 'urn:ietf:params:oauth:token-type:id-jag'
const idTokenType = 'urn:ietf:params:oauth:token-type:id_token'
/** With less left an ID token would end on its way. */
const marginMs = 30_000

/** The identity provider's own no. */
class Declined extends Error {
  readonly code: string
  readonly status: number
  constructor(code: string, status: number) {
    super(code)
    this.code = code
    this.status = status
  }
}

/** draft-ietf-oauth-identity-assertion-authz-grant §4.3, MCP enterprise-managed authorization. */
export function createIdpAssertions({ store, externals, clock, log }: IdpAssertionsDeps): IdpAssertions {
  const renewing = new Map<string, Promise<IdpTokens>>()

  const configurationOf = async (idp: string): Promise<openid.Configuration> => {
    const configuration = externals().get(idp)?.configuration
    if (!configuration) throw new Refused('identity_provider_unknown')
    return asked(configuration)
  }

  /**
   * At most one at a time for one sign-in: refresh tokens rotate, and several servers hang on one. Who waited for the
   * provider since they read `stored` gets what another renewed meanwhile: its refresh token was used.
   */
  const renew = async (stored: StoredIdpTokens, held: IdpTokens): Promise<IdpTokens> => {
    const { idp, subject } = stored
    const key = JSON.stringify([idp, subject])
    const under = renewing.get(key)
    if (under) return under
    const now = store.find(idp, subject)
    if (now?.version !== stored.version) {
      const fresh = now && store.open(now)
      if (!fresh) throw new SignInNeeded('not_signed_in')
      return fresh
    }
    const turn = renewNow(stored, held).finally(() => renewing.delete(key))
    renewing.set(key, turn)
    return turn
  }
  const renewNow = async (stored: StoredIdpTokens, { refreshToken }: IdpTokens): Promise<IdpTokens> => {
    const about = { idp: stored.idp, subject: stored.subject }
    if (refreshToken === null) throw new SignInNeeded('no_refresh_token')
    const configuration = await configurationOf(stored.idp)
    try {
      const answer = await asked(() => openid.refreshTokenGrant(configuration, refreshToken))
      // OpenID Connect Core §12.2 lets a provider leave it out; there is nothing to exchange then.
      if (!answer.id_token) throw new SignInNeeded('no_id_token')
      const fresh = { idToken: answer.id_token, refreshToken: answer.refresh_token ?? refreshToken }
      log.info({ ...about, swapped: store.swap(stored, fresh) }, 'sign-in renewed at the identity provider')
      return fresh
    } catch (error) {
      if (!(error instanceof Declined)) throw error
      log.warn({ ...about, reason: error.code }, 'sign-in not renewed at the identity provider')
      if (error.code !== 'invalid_grant') throw refusal(error)
      store.end(stored)
      throw new SignInNeeded('invalid_grant')
    }
  }

  const exchange = async (ask: AssertionAsk, idToken: string): Promise<string> => {
    const configuration = await configurationOf(ask.idp)
    const answer = await asked(() =>
      openid.genericGrantRequest(configuration, grantType, {
        requested_token_type: assertionType,
        audience: ask.audience,
        resource: ask.resource,
        ...(ask.scope === undefined ? {} : { scope: ask.scope }),
        subject_token: idToken,
        subject_token_type: idTokenType,
      }),
    )
    if (answer.issued_token_type !== assertionType || answer.token_type !== 'n_a') {
      throw new Refused('the identity provider answered another kind of token than an identity assertion')
    }
    return answer.access_token
  }

  return {
    signIn: (idp, subject) => {
      const stored = store.find(idp, subject)
      return stored && String(stored.signedInAt)
    },
    make: async (ask) => {
      const stored = store.find(ask.idp, ask.subject)
      const held = stored && store.open(stored)
      if (!stored || !held) throw new SignInNeeded('not_signed_in')
      const over = expiryOf(held.idToken) - clock.now() < marginMs
      const tokens = over ? await renew(stored, held) : held
      try {
        return await exchange(ask, tokens.idToken)
      } catch (error) {
        if (!(error instanceof Declined)) throw error
        if (error.code !== 'invalid_grant') throw refusal(error)
        if (over) throw new SignInNeeded('invalid_grant')
      }
      // Ended early at the provider: a fresh one says whether the sign-in is over, too.
      const fresh = await renew(stored, held)
      try {
        return await exchange(ask, fresh.idToken)
      } catch (error) {
        if (!(error instanceof Declined)) throw error
        throw error.code === 'invalid_grant' ? new SignInNeeded('invalid_grant') : refusal(error)
      }
    },
  }
}

const refusal = ({ code, status }: Declined): Refused =>
  new Refused(`Identity provider: request failed with ${statusName(status)} (${code})`)

/** Milliseconds since the epoch. Verified when it came; 0, which is over, for what can not be read. */
function expiryOf(idToken: string): number {
  try {
    return (decodeJwt(idToken).exp ?? 0) * 1000
  } catch {
    return 0
  }
}

/** Codes and statuses alone are taken over: the library's errors may hold bodies. */
async function asked<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof openid.ResponseBodyError && error.status < 500 && error.status !== 429) {
      throw new Declined(safeCode(error.error), error.status)
    }
    if (error instanceof openid.WWWAuthenticateChallengeError) throw new Declined('invalid_client', 401)
    const fault = translate(error)
    throw fault instanceof Fault
      ? new Fault(fault.code, { detail: `identity provider: ${fault.detail ?? fault.code}`, cause: error })
      : fault
  }
}
