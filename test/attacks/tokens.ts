import { strict as assert } from 'node:assert'
import { createHmac, createPublicKey } from 'node:crypto'
import { CompactEncrypt, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { type Area, type Attack, attack } from './case.ts'
import { type AttackRig, assertRefused, assertUnauthorized } from './rig.ts'

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const now = (): number => Math.floor(Date.now() / 1000)

/** A token that must get a 401, whatever it is made of. */
const bearer = (name: string, refusal: string, make: (rig: AttackRig) => Promise<string> | string): Attack =>
  attack(name, refusal, async (rig) => assertUnauthorized(await rig.send({ token: await make(rig) })))
const forged = (
  name: string,
  refusal: string,
  claims: Record<string, unknown>,
  header: Record<string, unknown> = {},
): Attack => bearer(`${name}, signed with the true key`, refusal, (rig) => rig.forge(claims, header))

export const tokens: Area = {
  title: 'Access tokens',
  attacks: [
    attack('No token', '401 before anything is read', async (rig) =>
      assertUnauthorized(await rig.send({ token: null })),
    ),
    bearer('A word that is no JWT', '401', () => 'let-me-in'),
    forged('aud of another server', 'aud must be this gateway', { aud: 'https://other.example/mcp' }),
    forged('aud that only begins like ours', 'aud is compared whole', { aud: 'https://localhost' }),
    forged('no aud', 'aud is required', { aud: undefined }),
    forged('iss of another server', 'iss must be trusted', { iss: 'https://idp.evil.example' }),
    forged('iss with a trailing slash', 'iss is compared byte for byte', { iss: 'https://localhost/' }),
    forged('no iss', 'iss is required', { iss: undefined }),
    forged('expired', 'exp', { exp: now() - 60, iat: now() - 600 }),
    forged('no exp', 'exp is required', { exp: undefined }),
    forged('nbf in the future', 'nbf', { nbf: now() + 3600 }),
    forged('no sub', 'sub is required', { sub: undefined }),
    forged('an empty sub', 'sub must say somebody', { sub: '' }),
    forged('no client_id', 'RFC 9068 §2.2 claims are required', { client_id: undefined }),
    forged('no jti', 'a token that can not be named can not be revoked', { jti: undefined }),
    forged('typ JWT (an ID token as access token)', 'typ must be at+jwt', {}, { typ: 'JWT' }),
    forged('no typ', 'typ must be at+jwt', {}, { typ: undefined }),
    forged('typ of an identity assertion', 'typ must be at+jwt', {}, { typ: 'oauth-id-jag+jwt' }),
    forged(
      'a critical header extension',
      'crit that is not understood is refused',
      {},
      { crit: ['x'], x: 1 },
    ),
    attack('the ID token of the same sign-in', 'typ and aud', async (rig) => {
      const idToken = rig.ann.tokens.id_token
      if (!idToken) throw new Error('there is no ID token to try')
      assertUnauthorized(await rig.send({ token: idToken }))
    }),
    bearer('the refresh token', 'not a JWT', (rig) => rig.ann.tokens.refresh_token!),
    bearer('a used authorization code', 'not a JWT', (rig) => rig.ann.code),
    bearer('the administrator token', 'not a JWT', (rig) => rig.adminToken),
    bearer('alg none', 'the algorithms are a list of two', (rig) => {
      const [, payload] = rig.ann.tokens.access_token.split('.')
      return `${part({ alg: 'none', typ: 'at+jwt' })}.${payload}.`
    }),
    bearer('alg NONE with the old signature', 'the algorithms are a list of two', (rig) => {
      const [, payload, signature] = rig.ann.tokens.access_token.split('.')
      return `${part({ alg: 'NONE', typ: 'at+jwt', kid: rig.key.kid })}.${payload}.${signature}`
    }),
    bearer('HS256 with the public key as PEM', 'no symmetric algorithm is taken', (rig) => {
      const pem = createPublicKey({ key: rig.key.publicJwk, format: 'jwk' }).export({
        type: 'spki',
        format: 'pem',
      })
      return hmac(rig, String(pem))
    }),
    bearer('HS256 with the public key as JWK', 'no symmetric algorithm is taken', (rig) =>
      hmac(rig, JSON.stringify(rig.key.publicJwk)),
    ),
    bearer('our kid, a key of the attacker', 'the signature', async (rig) =>
      rig.forge({}, {}, await generateKeyPair('RS256')),
    ),
    bearer('a key of the attacker in the header (jwk)', 'keys come from the policy alone', async (rig) => {
      const own = await generateKeyPair('RS256')
      return rig.forge({}, { jwk: await exportJWK(own.publicKey), kid: undefined }, own)
    }),
    bearer('a key set of the attacker in the header (jku)', 'keys come from the policy alone', async (rig) =>
      rig.forge({}, { jku: `${rig.site.origin}/jwks.json`, kid: 'evil' }, await generateKeyPair('RS256')),
    ),
    bearer('kid that is a path', 'kid only chooses among known keys', async (rig) =>
      rig.forge({}, { kid: '../../../../dev/null' }, await generateKeyPair('RS256')),
    ),
    bearer('ES256 in the header over an RS256 signature', 'key and algorithm must fit', (rig) => {
      const [, payload, signature] = rig.ann.tokens.access_token.split('.')
      return `${part({ alg: 'ES256', typ: 'at+jwt', kid: rig.key.kid })}.${payload}.${signature}`
    }),
    bearer(
      'another tenant’s token: same claims, its own issuer and key',
      'iss must be trusted',
      async (rig) => {
        const other = await generateKeyPair('RS256')
        return rig.forge({ iss: 'https://other-tenant.example', tenant: 'other' }, {}, other)
      },
    ),
    bearer('another tenant’s key under our issuer', 'the signature', async (rig) => {
      const other = await generateKeyPair('ES256')
      return new SignJWT({ sub: 'ann@example.com', client_id: 'x', jti: 'x', iat: now(), exp: now() + 60 })
        .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt' })
        .setIssuer(rig.origin)
        .setAudience(rig.url)
        .sign(other.privateKey)
    }),
    bearer('claims changed, signature kept (sub)', 'the signature', (rig) =>
      tampered(rig, { sub: 'bob@example.com' }),
    ),
    bearer('claims changed, signature kept (exp)', 'the signature', (rig) =>
      tampered(rig, { exp: 4_102_444_800 }),
    ),
    bearer('the signature cut off', 'the signature', (rig) =>
      rig.ann.tokens.access_token.split('.').slice(0, 2).join('.'),
    ),
    bearer('an encrypted token that only claims to be one', 'JWS alone', async (rig) =>
      new CompactEncrypt(Buffer.from(rig.ann.tokens.access_token))
        .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', typ: 'at+jwt' })
        .encrypt(Buffer.alloc(32)),
    ),
    attack(
      'no scope, signed with the true key',
      '403 insufficient_scope, with the scope to ask for',
      async (rig) => {
        const answer = await rig.send({ token: await rig.forge({ scope: 'openid' }) })
        assertRefused(answer, 403)
        const challenge = String(answer.headers['www-authenticate'])
        assert.match(challenge, /error="insufficient_scope"/)
        assert.match(challenge, /scope="mcp"/)
      },
    ),
    attack(
      'a client workload that is none, signed with the true key',
      'policy: no such client',
      async (rig) =>
        assertRefused(await rig.send({ token: await rig.forge({ client_workload: 'admin' }) }), 403),
    ),
    attack(
      'a client without a person, signed with the true key',
      'policies are for people unless they say so',
      async (rig) =>
        assertRefused(
          await rig.send({
            token: await rig.forge({ sub: 'client:x', subject_type: 'client', idp: undefined }),
          }),
          403,
        ),
    ),
    attack('the token in the query', '401: the header is the only place', async (rig) =>
      assertUnauthorized(
        await rig.send({ token: null, path: `/mcp?access_token=${rig.ann.tokens.access_token}` }),
      ),
    ),
    attack('the token in the body', '401: the header is the only place', async (rig) =>
      assertUnauthorized(
        await rig.send({
          token: null,
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
          body: `access_token=${rig.ann.tokens.access_token}`,
        }),
      ),
    ),
    attack('a revoked token', 'revocation reaches the gateway within a second', async (rig) => {
      const one = await rig.enter('ann')
      const alive = await rig.send({ token: one.tokens.access_token })
      if (alive.status !== 200) throw new Error(`it should have worked first: ${alive.status}`)
      const form = new URLSearchParams({ token: one.tokens.access_token, client_id: one.client.client_id })
      await fetch(`${rig.origin}/connect/revocation`, { method: 'POST', body: form })
      const deadline = Date.now() + 10_000
      for (;;) {
        const answer = await rig.send({
          token: one.tokens.access_token,
          body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
        })
        if (answer.status === 401) return
        if (Date.now() > deadline) throw new Error('the revoked token still works')
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }),
  ],
}

function hmac(rig: AttackRig, key: string): string {
  const [, payload] = rig.ann.tokens.access_token.split('.')
  const input = `${part({ alg: 'HS256', typ: 'at+jwt', kid: rig.key.kid })}.${payload}`
  return `${input}.${createHmac('sha256', key).update(input).digest('base64url')}`
}

function tampered(rig: AttackRig, over: Record<string, unknown>): string {
  const [head, payload = '', signature] = rig.ann.tokens.access_token.split('.')
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as object
  return `${head}.${part({ ...claims, ...over })}.${signature}`
}
