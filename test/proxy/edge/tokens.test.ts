import { once } from 'node:events'
import { exportJWK, exportSPKI, generateKeyPair, SignJWT } from 'jose'
import t from 'tap'
import type { Snapshot } from '../../../shared/wire/snapshot.ts'
import { proves } from '../../requirements.ts'
import { origin, resource, signingKey, snapshot, strangerKey, token } from './fakes.ts'
import { type Ask, rpc, startRig } from './rig.ts'

const rig = await startRig()
t.teardown(() => rig.close())
const body = rpc('tools/list')
const now = Math.floor(Date.now() / 1000)

const unsigned = (): string => {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${part({ alg: 'none', typ: 'at+jwt' })}.${part({ iss: origin, aud: resource, sub: 'a', exp: now + 60 })}.`
}
const publicPem = new TextEncoder().encode(await exportSPKI(signingKey.publicKey))

const refusals: [string, Ask, string, string][] = [
  ['no token', { token: null }, 'token.missing', ''],
  ['another scheme', { headers: { authorization: 'Basic YTpi' } }, 'token.missing', ''],
  [
    'two words after Bearer',
    { headers: { authorization: 'Bearer a b' } },
    'token.malformed',
    'invalid_token',
  ],
  ['garbage', { token: 'abc' }, 'token.malformed', 'invalid_token'],
  ['wrong aud', { token: await token({ aud: `${origin}/other` }) }, 'token.audience', 'invalid_token'],
  ['expired', { token: await token({ exp: now - 10 }) }, 'token.expired', 'invalid_token'],
  ['not yet valid', { token: await token({ nbf: now + 60 }) }, 'token.malformed', 'invalid_token'],
  ['alg none', { token: unsigned() }, 'token.malformed', 'invalid_token'],
  [
    'HS256 with the public key as secret',
    { token: await token({}, { alg: 'HS256' }, publicPem) },
    'token.malformed',
    'invalid_token',
  ],
  ['unknown kid', { token: await token({}, { kid: 'k2' }) }, 'token.signature', 'invalid_token'],
  [
    'a stranger’s key',
    { token: await token({}, {}, strangerKey.privateKey) },
    'token.signature',
    'invalid_token',
  ],
  ['an ID token', { token: await token({}, { typ: 'JWT' }) }, 'token.malformed', 'invalid_token'],
  [
    'unknown issuer',
    { token: await token({ iss: 'https://evil.test' }) },
    'token.issuer_unknown',
    'invalid_token',
  ],
  ['no client_id', { token: await token({ client_id: undefined }) }, 'token.malformed', 'invalid_token'],
  ['token in query', { path: `/mcp?access_token=${rig.valid}` }, 'token.in_query', 'invalid_request'],
  [
    'token in query, escaped',
    { path: `/mcp?a=b&%61ccess_token=${rig.valid}`, token: null },
    'token.in_query',
    'invalid_request',
  ],
]

for (const version of ['http1', 'http2'] as const) {
  t.test(`${version}: 401 says what to do, and nothing is called`, async (t) => {
    proves(t, 'HTTP-01')
    for (const [name, ask, code, oauth] of refusals) {
      const answer = await rig[version]({ body, ...ask })
      t.equal(answer.status, 401, name)
      t.equal(answer.json?.code, code, `${name}: ${code}`)
      const challenge = String(answer.headers['www-authenticate'])
      t.match(
        challenge,
        `Bearer resource_metadata="${origin}/.well-known/oauth-protected-resource/mcp", scope="mcp"`,
        name,
      )
      t.equal(/error="(\w+)"/.exec(challenge)?.[1] ?? '', oauth, `${name}: error`)
      t.notMatch(answer.text, /at .*\.ts/, `${name}: no stack`)
    }
    t.equal(rig.core.calls.length, 0)
    const good = await rig[version]({ body })
    t.equal(good.status, 200, 'the same process serves the next request')
    t.equal(rig.core.calls.length, 1)
    rig.core.calls.length = 0
  })
}

t.test('two Authorization headers are refused', async (t) => {
  proves(t, 'HTTP-02')
  const answer = await rig.http1({
    body,
    token: null,
    headers: { authorization: [`Bearer ${rig.valid}`, 'Bearer b'] },
  })
  t.equal(answer.status, 401)
  t.equal(answer.json.code, 'token.malformed')
  t.equal(rig.core.calls.length, 0)
})

t.test('the scheme is case-insensitive and DELETE wants a token too', async (t) => {
  proves(t, 'HTTP-03')
  t.equal(
    (await rig.http1({ body, token: null, headers: { authorization: `bEARER ${rig.valid}` } })).status,
    200,
  )
  t.equal((await rig.http1({ method: 'DELETE', token: null })).status, 401)
})

t.test('a fresh token may be 5 s over, a cached one not', async (t) => {
  proves(t, 'HTTP-04')
  // By the clock of the rig, which stands since before its start: on a busy machine that is seconds ago.
  const late = await token({ exp: Math.floor(rig.clock.now() / 1000) + 30 })
  t.equal((await rig.http1({ body, token: late })).status, 200)
  rig.clock.offset = 29_000
  t.equal((await rig.http1({ body, token: late })).status, 200, 'cached')
  rig.clock.offset = 32_000
  t.equal((await rig.http1({ body, token: late })).status, 200, 'verified again within leeway')
  rig.clock.offset = 36_000
  t.equal((await rig.http1({ body, token: late })).json.code, 'token.expired')
  rig.clock.offset = 0
})

t.test('a revocation acts on a cached token', async (t) => {
  proves(t, 'HTTP-05')
  const jti = 'to-be-revoked'
  const [one, other] = [await token({ jti }), await token({ sub: 'bob@corp.test' })]
  for (const each of [one, other]) t.equal((await rig.http1({ body, token: each })).status, 200)
  const cached = rig.edge.verifier.cached
  await rig.give({ revocations: [{ at: now + 5, jti }] })
  t.equal((await rig.http1({ body, token: one })).json.code, 'token.revoked')
  t.equal((await rig.http1({ body, token: other })).status, 200)
  t.equal(rig.edge.verifier.cached, cached, 'without verifying anyone again')
  await rig.give({ revocations: [{ at: now + 5, subject: 'bob@corp.test', clientId: 'agent-1' }] })
  t.equal((await rig.http1({ body, token: other })).json.code, 'token.revoked')
  await rig.give({ revocations: [{ at: now + 5, subject: 'bob@corp.test', clientId: 'agent-2' }] })
  t.equal((await rig.http1({ body, token: other })).status, 200, 'every field of a revocation must fit')
  await rig.give({ revocations: [{ at: now - 5, subject: 'bob@corp.test' }] })
  t.equal((await rig.http1({ body, token: other })).status, 200, 'issued after the revocation')
  await rig.give({ revocations: [{ at: now + 5 }] })
  t.equal((await rig.http1({ body })).json.code, 'token.revoked', 'one without fields names everybody')
  await rig.give()
})

t.test('keys that leave the snapshot take cached tokens with them', async (t) => {
  proves(t, 'HTTP-06')
  t.equal((await rig.http1({ body })).status, 200)
  await rig.give({ issuers: [] })
  t.equal((await rig.http1({ body })).json.code, 'token.issuer_unknown')
  t.equal(rig.edge.verifier.cached, 0)
  await rig.give()
})

t.test('keys that leave the snapshot while a body comes take its token with them', async (t) => {
  proves(t, 'HTTP-06')
  const { gateway } = snapshot(1)
  const more = { gateway: { ...gateway, audiences: [...gateway.audiences, 'https://other.test'] } }
  const changes: [Partial<Snapshot>, number][] = [
    [{ issuers: [] }, 401],
    [more, 200],
  ]
  for (const [change, status] of changes) {
    const socket = rig.dial()
    const before = Number(rig.edge.stats().requests)
    socket.write(
      `POST /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nAuthorization: Bearer ${rig.valid}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 5)}`,
    )
    while (Number(rig.edge.stats().requests) === before) await new Promise((done) => setTimeout(done, 2))
    await new Promise((done) => setTimeout(done, 50))
    await rig.give(change)
    socket.write(body.slice(5))
    const [data] = await once(socket, 'data')
    t.match(String(data), new RegExp(`^HTTP/1.1 ${status} `))
    socket.destroy()
    await rig.give()
  }
})

t.test('policy decides on the principal', async (t) => {
  proves(t, 'HTTP-07')
  const denied = await rig.http1({ body, token: await token({ client_workload: 'other' }) })
  t.equal(denied.status, 403)
  t.equal(denied.headers['www-authenticate'], undefined, 'more scope would not help')
  t.match(denied.json, { id: 1, error: { code: 4030, data: { reason: 'policy.gateway_denied' } } })
  await rig.give({ policies: [] })
  t.equal((await rig.http1({ body })).status, 403, 'a cached token meets the new policy')
  await rig.give()
  t.equal((await rig.http1({ body })).status, 200)
})

t.test('a trusted issuer elsewhere', async (t) => {
  proves(t, 'HTTP-08')
  const idp = await generateKeyPair('ES256')
  const jwk = { ...(await exportJWK(idp.publicKey)), kid: 'e1' }
  const fetched: string[] = []
  const other = await startRig({
    config: { trustedIssuerDomains: ['idp.test'] },
    fetch: async (url) => {
      fetched.push(url)
      return new Response(JSON.stringify({ keys: [jwk] }))
    },
  })
  t.teardown(() => other.close())
  const issuer = (id: string, host: string) => ({
    id,
    issuer: `https://${host}`,
    kind: 'trust-provider' as const,
    jwksUri: `https://${host}/jwks`,
    algorithms: ['ES256' as const],
  })
  await other.give({
    issuers: [issuer('corp', 'login.idp.test'), issuer('evil', 'idp.test.evil.test')],
    clientWorkloads: [
      { id: 'cw', name: 'agents', identities: [{ type: 'oauthClientId', value: 'corp-agent' }] },
    ],
  })
  const jwt = (iss: string, claims: object = {}): Promise<string> =>
    new SignJWT({ iss, aud: resource, sub: 'ann', azp: 'corp-agent', iat: now, exp: now + 60, ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'e1' })
      .sign(idp.privateKey)
  const ask = async (iss: string, claims?: object) => other.http1({ body, token: await jwt(iss, claims) })
  t.equal((await ask('https://login.idp.test')).status, 200)
  t.match(other.core.calls[0]?.principal, {
    identityProvider: 'corp',
    clientWorkload: 'cw',
    clientId: 'corp-agent',
  })
  const claimed = await ask('https://login.idp.test', { azp: 'x', client_workload: 'cw', idp: 'local' })
  t.equal(claimed.status, 403, 'it can not name our client workload')
  await ask('https://login.idp.test', {
    ...{ idp: 'local', subject_type: 'client', browser_ip: '192.0.2.1', team: 'red' },
    ...{ client_workload: 'cw', 'saml.response.issuer': 'https://idp' },
  })
  const { kind, claims } = other.core.calls.at(-1)!.principal
  t.match({ kind, claims }, { kind: 'person', claims: { team: 'red' } })
  for (const name of ['idp', 'subject_type', 'browser_ip', 'client_workload', 'saml.response.issuer'])
    t.notOk(Object.hasOwn(claims, name), `${name} is ours to say`)
  t.equal((await ask('https://idp.test.evil.test')).json.code, 'token.issuer_unknown')
  t.strictSame(fetched, ['https://login.idp.test/jwks'], 'keys come from trusted domains alone, once')
  const counted = other.meter.take()?.counts.filter(([name]) => name.endsWith('_jwks_refresh_attempts_total'))
  t.same(counted, [['aembit_mcp_gateway_jwks_refresh_attempts_total', ['success'], 1]])
})

t.test('refused tokens are counted by their reason', async (t) => {
  proves(t, 'OPS-METRICS-01')
  const rig = await startRig()
  t.teardown(() => rig.close())
  const ask = (bearer: string | null) => rig.http1({ body: rpc('tools/list'), token: bearer })
  await ask(null)
  await ask('abc')
  await ask(await token({ aud: 'https://other.test/mcp' }))
  await ask(await token({ exp: 1 }))
  const counts = rig.meter.take()?.counts ?? []
  const refused = counts.filter(([name]) => name === 'aembit_mcp_gateway_auth_failures_total')
  t.same(Object.fromEntries(refused.map(([, labels, by]) => [labels.join(), by])), {
    missing_header: 1,
    audience_mismatch: 1,
    invalid_token: 2,
  })
  t.notOk(
    counts.some(([name]) => name.endsWith('_requests_processed_total')),
    'nothing of them was read',
  )
})
