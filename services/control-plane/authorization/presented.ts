import type { IncomingMessage } from 'node:http'
import { createLocalJWKSet, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'
import type { AdapterPayload } from 'oidc-provider'
import type { Clock } from '../../../shared/clock.ts'
import { decideGateway, type Principal } from '../../../shared/policy.ts'
import { RevocationIndex, tokenFacts } from '../../../shared/revocations.ts'
import { type IssuancePolicy, issuable } from './gate.ts'
import type { SigningKeys } from './keys.ts'
import type { AuthorizationSettings } from './settings.ts'

export interface PresentedDeps {
  readonly settings: () => AuthorizationSettings
  readonly keys: SigningKeys
  readonly clock: Clock
  readonly policy: () => IssuancePolicy
}

/** A JWT access token that someone wants introspected or revoked, as oidc-provider would have stored an opaque one. */
export type Presented = AdapterPayload & { readonly jti: string }

/**
 * Our access tokens are JWTs that nobody stores. Shown at the introspection or revocation endpoint one is verified here
 * and then looks like a stored token, so that both endpoints treat it like any other. Undefined where it is not ours or
 * has expired; `active` also where it was revoked or policy has nothing left for it. Who revokes one need not be let in:
 * policy may change again while the token lives.
 */
export function createPresented({ settings, keys, clock, policy }: PresentedDeps) {
  const isActive = (principal: Principal): boolean => {
    const { index, now } = policy()
    const revocations = new RevocationIndex(index.snapshot.revocations, index.blocked.token)
    if (revocations.revoked(tokenFacts(principal))) return false
    return issuable(decideGateway(index, principal, { now })).allow
  }
  return async (token: string, { active }: { active: boolean }): Promise<Presented | undefined> => {
    const { issuer, resource } = settings()
    let claims: JWTPayload
    try {
      const verified = await jwtVerify(token, createLocalJWKSet(keys.publicJwks() as JSONWebKeySet), {
        issuer,
        audience: resource,
        typ: 'at+jwt',
        algorithms: ['RS256', 'ES256'],
        requiredClaims: ['sub', 'exp', 'iat', 'client_id', 'jti'],
        currentDate: new Date(clock.now()),
      })
      claims = verified.payload
    } catch {
      return undefined
    }
    const text = (name: string): string | undefined =>
      typeof claims[name] === 'string' ? (claims[name] as string) : undefined
    const alone = claims.subject_type === 'client' && claims.grant === undefined
    const principal: Principal = {
      issuer,
      subject: claims.sub!,
      clientId: text('client_id')!,
      kind: claims.subject_type === 'client' ? 'client' : 'person',
      clientWorkload: text('client_workload'),
      identityProvider: text('idp'),
      claims,
    }
    if (active && !isActive(principal)) return undefined
    const { iss: _iss, aud, sub, exp, iat, jti, client_id: clientId, scope, grant, ...extra } = claims
    return {
      kind: alone ? 'ClientCredentials' : 'AccessToken',
      jti: jti!,
      iat: iat!,
      exp: exp!,
      aud,
      scope: String(scope ?? ''),
      clientId: String(clientId),
      ...(alone
        ? { extra: { ...extra, sub } }
        : { accountId: sub!, grantId: String(grant), extra: { ...extra, username: claims.email ?? sub } }),
    } as Presented
  }
}

const carried = new WeakMap<IncomingMessage, Presented>()

/** Notes the token that a request shows. */
export function carry(request: IncomingMessage, token: Presented): void {
  carried.set(request, token)
}

/** The token of `model` that the request shows under `id`. */
export function carriedBy(request: IncomingMessage | undefined, model: string, id: string) {
  const token = request && carried.get(request)
  return token?.jti === id && token.kind === model ? token : undefined
}
