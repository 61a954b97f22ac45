import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t, { test } from 'tap'
import { createRandom } from '../../chaos/random.ts'
import { proves } from '../../requirements.ts'
import { Browser } from '../identity/browser.ts'
import { connect, type Plane, scene, signIn, tokenOf } from './credential-rig.ts'
import type { Upstream } from './upstream.ts'

t.setTimeout(120_000)
const digest = (text: string): string => createHash('sha256').update(text).digest('base64url')
const refreshes = (grants: readonly string[], person: string): number =>
  grants.filter((line) => line === `refresh_token ${person}`).length

/** Tokens are asked about at the authorization server before they are handed out. */
async function introspecting(plane: Plane, upstream: Upstream): Promise<void> {
  const [provider] = plane.snapshots.current().config.credentialProviders
  await plane.apply({
    credentialProviders: [
      {
        ...(provider as { id: string; type: string }),
        name: undefined,
        oauthIntrospectionUrl: `${upstream.issuer}/token/introspection`,
      },
      { id: 'key', type: 'none' },
      { id: 'none', type: 'none' },
    ],
  })
}

test('50 parallel questions of each of two people over an expired token: one refresh each, never the other’s', async (t) => {
  proves(t, 'CRED-10')
  const { upstream, plane } = await scene(t)
  await connect(plane, upstream, 'ann')
  await connect(plane, upstream, 'bob')
  const before = { ann: tokenOf(await plane.ask('ann')), bob: tokenOf(await plane.ask('bob')) }
  upstream.tokenDelayMs = 50
  plane.clock.offset += 3_600_000

  const asks = Array.from({ length: 100 }, (_, index) => (index % 2 === 0 ? 'ann' : 'bob') as 'ann' | 'bob')
  const answers = await Promise.all(
    asks.map(async (name) => ({ name, token: tokenOf(await plane.ask(name)) })),
  )
  for (const name of ['ann', 'bob'] as const) {
    t.equal(refreshes(upstream.grants, `${name}-at-notes`), 1, `${name}: one refresh`)
    const tokens = new Set(answers.filter((answer) => answer.name === name).map(({ token }) => token))
    t.equal(tokens.size, 1)
    const [token] = tokens
    t.not(token, before[name])
    t.equal(await upstream.accountOf(token!), `${name}-at-notes`, 'the right account')
  }
  t.equal((await plane.ask('ann')).kind, 'headers')
  t.equal(refreshes(upstream.grants, 'ann-at-notes'), 1, 'and no further one')
})

test('a token is renewed before it ends, and the rotated refresh token is the one used next', async (t) => {
  proves(t, 'CRED-11')
  const { upstream, plane } = await scene(t)
  await connect(plane, upstream, 'ann')
  plane.clock.offset += 200_000
  await plane.ask('ann')
  t.equal(refreshes(upstream.grants, 'ann-at-notes'), 0, '100 s are left: not yet')
  plane.clock.offset += 60_000
  for (const round of [1, 2, 3]) {
    t.equal(await upstream.accountOf(tokenOf(await plane.ask('ann'))), 'ann-at-notes')
    t.equal(refreshes(upstream.grants, 'ann-at-notes'), round)
    plane.clock.offset += 290_000
  }
})

test('a refresh that fails for now: the old token while it lives, then an error, then back', async (t) => {
  proves(t, 'CRED-12')
  const { upstream, plane } = await scene(t)
  await connect(plane, upstream, 'ann')
  const token = tokenOf(await plane.ask('ann'))
  upstream.tokenStatus = 503
  plane.clock.offset += 280_000
  t.equal(tokenOf(await plane.ask('ann')), token, '20 s are left')
  const tries = () => upstream.requests.filter((line) => line === 'POST /token').length
  const before = tries()
  t.equal(tokenOf(await plane.ask('ann')), token)
  t.equal(tries(), before, 'not tried again before the backoff is over')
  plane.clock.offset += 600_000
  await t.rejects(plane.ask('ann'), { code: 'credential.unavailable' })
  const seen = await signIn(plane, 'ann')
  t.match(
    (await seen.get(`${plane.origin}/connections`)).text,
    /Last problem<\/dt><dd><span class="bad">renewing failed and is tried again/,
    'the person sees it',
  )
  for (let more = 0; more < 8; more++) {
    plane.clock.offset += 120_000
    await t.rejects(plane.ask('ann'), { code: 'credential.unavailable' })
  }
  const told = (plane.audit() as { activity: string }[]).filter(
    ({ activity }) => activity === 'Token renewal fails',
  )
  t.match(told, [{ target: 'notes', actor: { displayName: 'ann@example.com' } }], 'and the audit log, once')
  upstream.tokenStatus = undefined
  plane.clock.offset += 120_000
  t.equal((await plane.ask('ann')).kind, 'headers')
  t.notMatch((await seen.get(`${plane.origin}/connections`)).text, /Last problem/)
})

test('a grant that ended: the connection is broken, its owner is asked, and connecting again heals it', async (t) => {
  proves(t, 'CRED-13')
  const { upstream, plane } = await scene(t)
  const browser = new Browser()
  await connect(plane, upstream, 'ann', browser)
  await upstream.revokeGrants('ann-at-notes')
  plane.clock.offset += 3_600_000
  const asks = await Promise.all(Array.from({ length: 10 }, () => plane.ask('ann')))
  for (const answer of asks) t.match(answer, { kind: 'authorization_required', message: /has ended/ })
  t.equal(upstream.requests.filter((line) => line === 'POST /token').length, 2, 'one code, one refresh')
  t.equal(plane.changed.length, 2, 'gateways were told')
  const list = await browser.get(`${plane.origin}/connections`)
  t.match(list.text, /Needs to be connected again/)
  t.match(list.text, /the access ended or was taken back at the server/)
  await plane.ask('ann')
  t.equal(
    upstream.requests.filter((line) => line === 'POST /token').length,
    2,
    'a broken one is not tried again',
  )
  const page = await connect(plane, upstream, 'ann', browser)
  t.match(page.text, /connected/)
  t.equal((await plane.ask('ann')).kind, 'headers')
})

test('what the server refused is refreshed once; refused again and again, the owner is asked', async (t) => {
  const { upstream, plane } = await scene(t)
  await connect(plane, upstream, 'ann')
  const first = tokenOf(await plane.ask('ann'))
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => plane.ask('ann', digest(`Bearer ${first}`))),
  )
  const second = tokenOf(answers[0]!)
  t.not(second, first)
  t.equal(refreshes(upstream.grants, 'ann-at-notes'), 1)
  t.equal(
    tokenOf(await plane.ask('ann', digest(first))),
    second,
    'an old one that is refused late changes nothing',
  )
  t.equal(refreshes(upstream.grants, 'ann-at-notes'), 1)
  let last = second
  for (let refused = 2; refused <= 3; refused++) {
    last = tokenOf(await plane.ask('ann', digest(`Bearer ${last}`)))
    t.equal(refreshes(upstream.grants, 'ann-at-notes'), refused)
  }
  t.match(await plane.ask('ann', digest(`Bearer ${last}`)), { kind: 'authorization_required' })
  t.equal(refreshes(upstream.grants, 'ann-at-notes'), 3, 'no storm of refreshes')
})

test('refused, refreshed, and refused again an hour later is a new refusal', async (t) => {
  const { upstream, plane } = await scene(t)
  await connect(plane, upstream, 'ann')
  const first = tokenOf(await plane.ask('ann'))
  const second = tokenOf(await plane.ask('ann', digest(first)))
  plane.clock.offset += 100_000
  t.not(tokenOf(await plane.ask('ann', digest(second))), second)
})

test('disconnecting while a refresh is away: the late answer is dropped', async (t) => {
  const { upstream, plane } = await scene(t)
  const browser = new Browser()
  await connect(plane, upstream, 'ann', browser)
  const list = await browser.get(`${plane.origin}/connections`)
  upstream.tokenDelayMs = 300
  plane.clock.offset += 3_600_000
  const asked = plane.ask('ann')
  await browser.submit(list, '/disconnect')
  t.match(await asked, { kind: 'authorization_required' })
  t.match(await plane.ask('ann'), { kind: 'authorization_required' })
})

test('a token without an end and without a refresh token is used until it is refused', async (t) => {
  const { upstream, plane } = await scene(t)
  await connect(plane, upstream, 'ann')
  plane.db.prepare('UPDATE user_credential SET expires_at = NULL').run()
  plane.clock.offset += 10 * 86_400_000
  const answer = await plane.ask('ann')
  t.match(answer, { kind: 'headers', expiresAt: null })
  t.equal(refreshes(upstream.grants, 'ann-at-notes'), 0)
})

test('what is in use is renewed in the background, spread by jitter, and no call waits for it', async (t) => {
  proves(t, 'CRED-39')
  const { upstream, plane } = await scene(t)
  await connect(plane, upstream, 'ann')
  await connect(plane, upstream, 'bob')
  const first = tokenOf(await plane.ask('ann'))
  plane.clock.offset += 200_000
  await plane.plane.renew()
  t.equal(upstream.grants.filter((line) => line.startsWith('refresh_token')).length, 0, '100 s are left')
  // Of the last 60 s of 300 s, jitter of one half takes an eighth: at 52.5 s.
  plane.clock.offset += 45_000
  await plane.plane.renew()
  t.equal(refreshes(upstream.grants, 'ann-at-notes'), 0, '55 s are left: not by this one’s jitter')
  plane.clock.offset += 5_000
  await Promise.all([plane.plane.renew(), plane.plane.renew(), plane.ask('ann')])
  t.equal(refreshes(upstream.grants, 'ann-at-notes'), 1, 'once, beside a call that asks')
  t.equal(refreshes(upstream.grants, 'bob-at-notes'), 0, 'Bob used nothing')
  const requests = upstream.requests.length
  t.not(tokenOf(await plane.ask('ann')), first)
  t.equal(upstream.requests.length, requests, 'the call finds it done')
  plane.clock.offset += 3_600_000
  await plane.plane.renew()
  t.equal(refreshes(upstream.grants, 'ann-at-notes'), 1, 'an hour without use: left alone')
})

test('a grant that ended is noticed in the background: on the page, in the audit trail, at the gateways', async (t) => {
  proves(t, 'CRED-39')
  const { upstream, plane } = await scene(t)
  const browser = new Browser()
  await connect(plane, upstream, 'ann', browser)
  await plane.ask('ann')
  await upstream.revokeGrants('ann-at-notes')
  plane.clock.offset += 260_000
  await plane.plane.renew()
  t.match((await browser.get(`${plane.origin}/connections`)).text, /Needs to be connected again/)
  t.match(plane.audit()[0], {
    category: 'CredentialProvider',
    activity: 'Connection ended',
    target: 'notes',
    actor: { displayName: 'ann@example.com' },
    detail: { credentialProviderId: 'notes-account', reason: 'invalid_grant' },
  })
  t.equal(plane.changed.length, 2, 'connected, ended')
  await plane.plane.renew()
  t.equal(
    (plane.audit() as { activity: string }[]).filter((each) => each.activity === 'Connection ended').length,
    1,
    'told once',
  )
})

test('a token that was revoked at the server is noticed before it is used, and asked about once a minute', async (t) => {
  proves(t, 'CRED-43')
  const { upstream, plane } = await scene(t)
  await introspecting(plane, upstream)
  await connect(plane, upstream, 'ann')
  const asked = () => upstream.requests.filter((line) => line === 'POST /token/introspection').length
  const [first] = await Promise.all(Array.from({ length: 20 }, () => plane.ask('ann')))
  t.equal(asked(), 1, 'for all who ask')
  await plane.ask('ann')
  t.equal(asked(), 1, 'and for a minute')
  await upstream.endTokens()
  plane.clock.offset += 61_000
  const second = tokenOf(await plane.ask('ann'))
  t.not(second, tokenOf(first!))
  t.equal(await upstream.accountOf(second), 'ann-at-notes', 'a fresh one')
  await upstream.endTokens()
  await upstream.revokeGrants('ann-at-notes')
  plane.clock.offset += 61_000
  t.match(await plane.ask('ann'), { kind: 'authorization_required', reason: 'invalid_grant' })
})

test('a renewal that came while a call waited for an introspection: the used refresh token is not used again', async (t) => {
  proves(t, 'CRED-97')
  const { upstream, plane } = await scene(t)
  await introspecting(plane, upstream)
  await connect(plane, upstream, 'ann')
  await plane.ask('ann')
  plane.clock.offset += 260_000
  const arrived = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<void>()
  upstream.before = (path) => {
    if (!path.endsWith('/introspection')) return
    arrived.resolve()
    return answer.promise
  }
  const asked = plane.ask('ann')
  await arrived.promise
  await plane.plane.renew()
  answer.resolve()
  const token = tokenOf(await asked)
  t.equal(await upstream.accountOf(token), 'ann-at-notes', 'the one that came meanwhile')
  t.same(
    upstream.ledger.of('ann-at-notes').map(({ renewals }) => renewals.length),
    [1, 0],
  )
  plane.clock.offset += 290_000
  t.equal((await plane.ask('ann')).kind, 'headers', 'and the grant lives on')
})

test('calls, refusals, renewals and introspections in any order: one refresh for each end of a token', async (t) => {
  proves(t, 'CRED-96')
  const { upstream, plane } = await scene(t)
  await introspecting(plane, upstream)
  await connect(plane, upstream, 'ann')
  await connect(plane, upstream, 'bob')
  upstream.now = () => plane.clock.now()
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
  const random = createRandom(seed).next
  upstream.before = (path) => (path.startsWith('/token') && random() < 0.7 ? delay(random() * 3) : undefined)
  const names = ['ann', 'bob'] as const
  /** Without the first of each, which the wall clock dates. */
  const tokens = (name: string) => upstream.ledger.of(`${name}-at-notes`).slice(1)
  const refused = new Set<string>()
  plane.clock.offset += 280_000
  while (names.some((name) => tokens(name).length <= 8)) {
    const work = Array.from({ length: 12 }, async (_, nth) => {
      await delay(random() * 4)
      if (nth === 0) return plane.plane.renew()
      const name = random() < 0.5 ? 'ann' : 'bob'
      const token = tokenOf(await plane.ask(name))
      t.equal(await upstream.accountOf(token), `${name}-at-notes`)
      if (nth > 1 || random() > 0.1) return
      refused.add(token)
      await plane.ask(name, digest(token))
    })
    await Promise.all(work)
    plane.clock.offset += Math.round(6_000 + random() * 34_000)
  }
  for (const name of names) {
    const all = tokens(name)
    t.same(
      all.map(({ renewals }) => renewals.length),
      [...all.slice(1).map(() => 1), 0],
      `${name}, seed ${seed}: one each, none for the last`,
    )
    const early = all.filter(
      ({ accessToken, issuedAt, endsAt, renewals: [at = endsAt] }) =>
        at - issuedAt < (endsAt - issuedAt) * 0.8 && !refused.has(accessToken),
    )
    t.same(early, [], `${name}, seed ${seed}: none that was good for long`)
  }
})
