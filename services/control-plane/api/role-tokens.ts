import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import { apiAudience } from '../config/fields.ts'
import type { SnapshotSource } from '../fleet/snapshots.ts'

export type Role = 'auditor' | 'administrator'

/**
 * The role of a token of ours for this API (credential providers of type aembit-access-token); undefined for anything
 * else. What counts is the signature of our issuer's keys and an audience that no other token of ours has; and while it
 * lives, that the kill switch does not name it and its provider still gives a role.
 */
export async function roleOf(
  snapshots: SnapshotSource,
  authorization: string | undefined,
): Promise<Role | undefined> {
  const token = /^Bearer ([A-Za-z0-9_.-]{20,8192})$/i.exec(authorization ?? '')?.[1]
  if (!token?.includes('.')) return undefined
  const { config, snapshot, index } = snapshots.current()
  const { issuer } = config.authorizationServer
  const jwks = snapshot.issuers.find(({ kind }) => kind === 'authorization-server')?.jwks
  if (!jwks) return undefined
  try {
    const { payload } = await jwtVerify(token, createLocalJWKSet(jwks as unknown as JSONWebKeySet), {
      issuer,
      audience: apiAudience(new URL(issuer).origin),
      algorithms: ['ES256'],
      typ: 'JWT',
      requiredClaims: ['exp', 'sub', 'jti'],
    })
    if (index.blocked.token.has(payload.jti!)) return undefined
    const given = payload.role_id
    if (given !== 'auditor' && given !== 'administrator') return undefined
    const provider = config.credentialProviders.find(
      ({ type, id }) => type === 'aembit-access-token' && `credential-provider:${id}` === payload.sub,
    )
    if (provider?.type !== 'aembit-access-token') return undefined
    return provider.roleId === 'administrator' ? given : 'auditor'
  } catch {
    return undefined
  }
}
