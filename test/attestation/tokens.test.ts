import { randomBytes } from 'node:crypto'
import { exportJWK, exportSPKI, generateKeyPair, SignJWT } from 'jose'
import { test } from 'tap'
import { configOf } from '../control-plane/fleet/rig.ts'
import { proves } from '../requirements.ts'
import { configWith, controllerId, machine, reason, refusal, startAttested, startIssuer } from './rig.ts'

const loopback = ['127.0.0.0/8']

test('an OIDC token of the issuer registers its machine, and each token takes a challenge of its own', async (t) => {
  proves(t, 'AC-ATTEST-06')
  const { issuer, token } = await startIssuer(t)
  const fleet = await startAttested(t, {
    provider: 'OidcIdToken',
    issuer,
    audience: 'controllers',
    allowedNetworks: loopback,
    matchRules: [
      { attribute: 'OidcSubject', value: 'ci' },
      { attribute: 'OidcSubject', value: 'vm-1' },
      { attribute: 'OidcCustom', key: 'env', value: 'prod' },
    ],
  })
  const one = machine(fleet)
  const good = await token({ sub: 'vm-1', aud: 'controllers', env: 'prod', jti: 'j1' })
  const evidence = (identityToken: string) => () => ({ oidc: { identityToken } })
  const first = await one.attest(evidence(good))
  t.match(first, { status: 200, body: { tenantId: 'acme', accessToken: String } })
  t.match(fleet.controllers.find(controllerId), {
    provider: 'OidcIdToken',
    instances: [{ subject: 'vm-1', hostname: 'host-a' }],
  })
  t.match(await one.attest(evidence(good)), { status: 200 }, 'the same machine may show its token again')
  t.match(await machine(fleet).attest(evidence(good)), refusal, 'another machine may not')
  t.match(reason(fleet), /shown first by another key/)

  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ sub: 'vm-2', aud: 'controllers', env: 'prod' }, /OidcSubject \(vm-2\) matches no rule/],
    [{ sub: 'vm-1', aud: 'controllers', env: 'dev' }, /OidcCustom:env \(dev\) matches no rule/],
    [{ sub: 'vm-1', aud: 'controllers' }, /OidcCustom:env \(none\) matches no rule/],
    [{ sub: 'vm-1', aud: 'others', env: 'prod' }, /"aud"/],
    [{ sub: 'vm-1', aud: 'controllers', env: 'prod', iss: 'https://other.example' }, /"iss"/],
    [{ sub: 'vm-1', aud: 'controllers', env: 'prod', exp: 1_000_000 }, /"exp"/],
    [{ sub: 'vm-1', aud: 'controllers', env: 'prod', exp: 4_000_000_000 }, /longer than 25 hours/],
  ]
  for (const [claims, why] of wrong) {
    t.match(await one.attest(evidence(await token(claims))), refusal)
    t.match(reason(fleet), why)
  }
  const { privateKey } = await generateKeyPair('RS256')
  const forged = await token({ sub: 'vm-1', aud: 'controllers', env: 'prod' }, privateKey)
  t.match(await one.attest(evidence(forged)), refusal)
  t.match(reason(fleet), /signature verification failed/)
  t.match(await one.attest(() => ({})), refusal, 'nothing')
  t.match(reason(fleet), /sent no evidence for OidcIdToken/)
  t.notMatch(fleet.lines.join(''), good, 'no token in the log')
})

test('a challenge is for one controller, one key, one use and two minutes', async (t) => {
  proves(t, 'AC-ATTEST-07')
  const { issuer, token } = await startIssuer(t)
  let ahead = 0
  const clock = { now: () => Date.now() + ahead, sleep: async () => {} }
  const fleet = await startAttested(
    t,
    {
      provider: 'OidcIdToken',
      issuer,
      audience: 'controllers',
      allowedNetworks: loopback,
      matchRules: [{ attribute: 'OidcSubject', value: 'vm-1' }],
    },
    { clock },
  )
  const evidence = { oidc: { identityToken: await token({ sub: 'vm-1', aud: 'controllers' }) } }
  const one = machine(fleet)
  const two = machine(fleet)
  const given = await one.challenge()
  t.match(given.nonce, /^\d{10}$/)
  t.match(await two.present(evidence, given), refusal, 'of another key')
  t.match(reason(fleet), /not made for this controller and key/)
  t.match(await one.present(evidence, { ...given, more: { assertion: 'a.b.c' } }), refusal, 'without its key')
  t.match(await one.present(evidence, given), refusal, 'spent by that')
  t.match(reason(fleet), /used before/)
  const old = await one.challenge()
  ahead = 121_000
  t.match(await one.present(evidence, old), refusal)
  t.match(reason(fleet), /older than two minutes/)
  ahead = 0
  t.match(await one.present(evidence, { challenge: 'x'.repeat(51) }), refusal)
  t.match(reason(fleet), /not one of ours/)
  const other = machine(fleet, '7a3f1c9e-0000-4000-8000-000000000002')
  t.match(await other.attest(() => evidence), refusal, 'an unknown controller is refused as all are')
  t.match(reason(fleet), /no controller of this id/)
  t.match(await one.present(evidence, await one.challenge()), { status: 200 })

  // A change of the rules takes the tokens back, and the controller of a file that is gone is gone.
  const { body } = await one.present(evidence, await one.challenge())
  const bearer = { authorization: `Bearer ${body.accessToken}` }
  t.ok(fleet.tokens.authenticate('controller', bearer.authorization))
  fleet.declare(
    configWith({
      provider: 'OidcIdToken',
      issuer,
      audience: 'controllers',
      allowedNetworks: loopback,
      matchRules: [{ attribute: 'OidcSubject', value: 'vm-9' }],
    }),
  )
  t.throws(() => fleet.tokens.authenticate('controller', bearer.authorization), { code: 'machine.token' })
  t.match(await one.attest(() => evidence), refusal)
  fleet.declare(configOf())
  t.equal(fleet.controllers.find(controllerId), undefined)
})

test('a Google identity token is made for the challenge, and matched by project, instance and e-mail', async (t) => {
  proves(t, 'AC-ATTEST-04')
  const { issuer, token } = await startIssuer(t)
  const fleet = await startAttested(t, {
    provider: 'GcpIdentityToken',
    issuer,
    allowedNetworks: loopback,
    matchRules: [
      { attribute: 'GcpProjectId', value: 'prod-1' },
      { attribute: 'Email', value: 'gw@prod-1.iam.gserviceaccount.com' },
    ],
  })
  const one = machine(fleet)
  const claims = (aud: string, project = 'prod-1', verified = true) => ({
    aud,
    sub: '1234',
    email: 'gw@prod-1.iam.gserviceaccount.com',
    email_verified: verified,
    google: { compute_engine: { project_id: project, instance_id: '987', zone: 'z' } },
  })
  const gcp = async (given: Record<string, unknown>) => ({ gcp: { identityToken: await token(given) } })
  t.match(await one.attest((audience) => gcp(claims(audience))), { status: 200 })
  t.equal(fleet.controllers.find(controllerId)?.instances[0]?.subject, 'prod-1/987')
  t.match(await one.attest(() => gcp(claims('aembit-control-plane/acme/other'))), refusal)
  t.match(reason(fleet), /"aud"/)
  t.match(await one.attest((audience) => gcp(claims(audience, 'prod-2'))), refusal)
  t.match(reason(fleet), /GcpProjectId \(prod-2\) matches no rule/)
  t.match(await one.attest((audience) => gcp(claims(audience, 'prod-1', false))), refusal)
  t.match(reason(fleet), /Email \(none\) matches no rule/)
})

test('keys of an OIDC issuer by JWKS, public key or shared secret, each with its own algorithms alone', async (t) => {
  proves(t, 'TRUST-01')
  const issuer = 'https://ci.example'
  const secret = randomBytes(48)
  const short = randomBytes(32)
  const pair = await generateKeyPair('ES256', { extractable: true })
  const spki = await exportSPKI(pair.publicKey)
  const now = Math.floor(Date.now() / 1000)
  const token = (alg: string, key: Parameters<SignJWT['sign']>[0]) =>
    new SignJWT({ iss: issuer, aud: 'controllers', sub: 'vm-1', jti: randomBytes(8).toString('hex') })
      .setProtectedHeader({ alg, kid: 'k1' })
      .setIssuedAt(now)
      .setExpirationTime(now + 600)
      .sign(key)
  const fleetWith = (keys: Record<string, unknown>) =>
    startAttested(t, {
      provider: 'OidcIdToken',
      issuer,
      audience: 'controllers',
      matchRules: [{ attribute: 'OidcSubject', value: 'vm-1' }],
      ...keys,
    })
  const jwk = { ...(await exportJWK(pair.publicKey)), kid: 'k1', alg: 'ES256' }
  const symmetric = { symmetricKey: { value: secret.toString('base64') } }
  const cases: [string, Record<string, unknown>, string, boolean][] = [
    ['jwks', { jwks: { keys: [jwk] } }, await token('ES256', pair.privateKey), true],
    ['public key', { publicKey: spki }, await token('ES256', pair.privateKey), true],
    ['shared secret', symmetric, await token('HS256', secret), true],
    ['its longer hash', symmetric, await token('HS384', secret), true],
    ['a hash longer than the key', symmetric, await token('HS512', Buffer.concat([secret, secret])), false],
    ['another secret', symmetric, await token('HS256', short), false],
    ['a key where a secret is meant', symmetric, await token('ES256', pair.privateKey), false],
    ['the public key as a secret', { publicKey: spki }, await token('HS256', Buffer.from(spki)), false],
  ]
  for (const [what, keys, identityToken, good] of cases) {
    const fleet = await fleetWith(keys)
    const answer = await machine(fleet).attest(() => ({ oidc: { identityToken } }))
    t.match(answer, good ? { status: 200 } : refusal, what)
    t.notMatch(fleet.lines.join(''), secret.toString('base64'), 'the secret is in no log')
  }
  for (const [keys, why] of [
    [{ symmetricKey: { value: randomBytes(31).toString('base64') } }, /32 bytes or more in base64/],
    [{ symmetricKey: { value: 'not base64 at all!' } }, /32 bytes or more in base64/],
    [{ ...symmetric, publicKey: spki }, /in several ways/],
    [{ jwks: { keys: [{ kty: 'oct', k: 'x' }] } }, /whoever verifies sign as well/],
  ] as const) {
    await t.rejects(fleetWith(keys), { code: 'config.invalid', detail: why })
  }
})
