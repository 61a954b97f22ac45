import t, { type Test } from 'tap'
import { createAccessEvents } from '../../../services/control-plane/events/access.ts'
import { type AuditEntry, createAuditLog } from '../../../services/control-plane/events/audit.ts'
import { createRefusals } from '../../../services/control-plane/events/refusals.ts'
import { openDatabase, transaction } from '../../../services/control-plane/store/database.ts'
import { proves } from '../../requirements.ts'
import { Browser } from './browser.ts'
import {
  atSignIn,
  authorizeUrl,
  callback,
  obtainTokens,
  password,
  pkce,
  refresh,
  register,
  startWorld,
  TestClock,
  token,
  type WorldOptions,
} from './world.ts'

const ann = { email: 'ann@example.com', password }

interface AuditRow {
  readonly activity: string
  readonly outcome: string
  readonly detail: { readonly reference: string; readonly reason: string }
}

/** What log, audit log and authorization events hold of the last refusal. */
async function scene(t: Test, options: WorldOptions = {}) {
  const world = await startWorld(options)
  t.teardown(() => world.close())
  const clock = new TestClock()
  const events = createAccessEvents(world.db, clock, () => ({ maxAgeMs: 86_400_000, maxRows: 1000 }))
  const audit = createAuditLog(world.db, clock)
  const last = () => {
    const [entry] = audit.query({ page: 1, perPage: 1 }).entries as AuditRow[]
    const [event] = events.query({ spanLastHours: 1, page: 1, perPage: 1 }).events
    const line = world.logs.findLast(({ reference }) => reference !== undefined)
    return { entry, event, line }
  }
  /** One record of each kind, under one reference. */
  const recorded = (
    what: string,
    { activity, event, ...rest }: { activity: string; event?: object; reason?: unknown; detail?: unknown },
  ): void => {
    const found = last()
    const reference = found.entry?.detail.reference
    t.match(found.entry, { activity, outcome: 'Failure', client: { ip: String }, detail: rest }, what)
    t.match(found.line, { reference, level: 40 }, `${what}: log`)
    if (event) t.match(found.event, { ...event, environment: { reference } }, `${what}: event`)
  }
  return { world, recorded, audit }
}

const signInRefused = (reason: string) => ({
  activity: 'Sign-in refused',
  event: {
    meta: { eventType: 'access.authorization', severity: 'Error' },
    outcome: { result: 'Unauthorized', reason },
  },
})

t.test('every way in which a sign-in is refused leaves its reason', async (t) => {
  proves(t, 'AUDIT-01')
  const { world, recorded } = await scene(t)
  const { browser, page } = await atSignIn(world)
  const submit = (fields: Record<string, string>, suffix = '/password') =>
    browser.submit(page, suffix, fields)
  await submit({ ...ann, password: 'wrong' })
  recorded('wrong password', {
    ...signInRefused('MatchRuleFailed'),
    reason: 'MatchRuleFailed',
    detail: /another password/,
  })
  await submit({ email: 'a secret typed here@example.com', password: 'wrong' })
  recorded('unknown account', { ...signInRefused('MatchRuleFailed'), reason: 'MatchRuleFailed' })
  const kept = JSON.stringify(world.db.prepare('SELECT body FROM audit_log').all())
  t.notMatch(kept, /a secret typed here/, 'what may be a password is not kept')
  t.match(kept, /ann@example\.com/, 'whose account it was is')
  await submit({ ...ann, email: '' })
  recorded('nothing typed', { ...signInRefused('ConditionFailed'), detail: /missing or too long/ })
  await submit({ ...ann, idp: 'other' })
  recorded('no such directory', { ...signInRefused('ConditionFailed'), detail: /no such directory/ })
  for (let i = 0; i < 5; i++) await submit({ ...ann, password: 'wrong' })
  await submit(ann)
  recorded('locked', { ...signInRefused('ConditionFailed'), detail: /^locked for/ })
  await browser.get(`${world.origin}/idp/local/callback?state=never-given&code=x`)
  recorded('unknown state', { ...signInRefused('ConditionFailed'), detail: /state is unknown/ })
  await browser.post(`${world.origin}/idp/local/acs`, { SAMLResponse: 'x', RelayState: 'never-given' })
  recorded('a response that nobody waits for', {
    ...signInRefused('ConditionFailed'),
    detail: /no sign-in that waits/,
  })
  await browser.post(new URL(`${new URL(page.url).pathname}/password`, page.url).href, {
    ...ann,
    csrf: 'forged',
  })
  recorded('a forged form', { activity: 'Form refused', reason: 'ConditionFailed', detail: /not of this/ })
})

t.test('a provider that is not there, or not known', async (t) => {
  const closed = 'http://127.0.0.1:9'
  const { world, recorded } = await scene(t, {
    config: {
      identityProviders: [
        {
          id: 'corp',
          name: 'Corp',
          type: 'oidc',
          issuer: closed,
          clientId: 'x',
          allowedNetworks: ['127.0.0.0/8'],
          domains: ['example.com'],
        },
      ],
    },
  })
  const { browser, page } = await atSignIn(world)
  const away = await browser.submit(page, '/idp', { idp: 'corp' })
  recorded('unreachable', { ...signInRefused('NoDataFound'), reason: 'NoDataFound' })
  t.match(away.text, /can not be reached right now\. Try again in a minute\. Reference: [0-9a-f]{12}/)
  await browser.submit(page, '/idp', { email: 'ann@elsewhere.example' })
  recorded('no provider of that domain', { ...signInRefused('NoDataFound'), detail: /domain/ })
  await browser.submit(page, '/idp', { idp: 'other' })
  recorded('not offered', { ...signInRefused('ConditionFailed'), detail: /unknown identity provider/ })
})

t.test('requests, consents, tokens and registrations that are refused', async (t) => {
  proves(t, 'AUDIT-02')
  const { world, recorded, audit } = await scene(t)
  const browser = new Browser()
  const client = await register(world)
  const url = (over: Record<string, string | null>) =>
    authorizeUrl(world, client.client_id, pkce().challenge, over)
  const request = (reason: string) => ({
    activity: 'Authorization request refused',
    reason,
    event: {
      meta: { eventType: 'access.request', severity: 'Error' },
      outcome: { result: 'Error', reason },
    },
  })
  await browser.get(url({ redirect_uri: 'https://evil.example/cb' }))
  recorded('redirect URI', request('invalid_redirect_uri'))
  await browser.get(url({ resource: 'https://other.example/mcp' }))
  recorded('resource', request('invalid_target'))
  await browser.get(url({ client_id: 'nobody' }))
  recorded('client', request('invalid_client'))
  await browser.get(url({ code_challenge: null }))
  recorded('no PKCE', request('invalid_request'))

  const { tokens } = await obtainTokens(world, { client, browser })
  t.match(audit.query({ page: 1, perPage: 10 }).entries, [
    { activity: 'Consent given', outcome: 'Success', target: `client ${client.client_id}` },
    { activity: 'Signed in', outcome: 'Success', actor: { displayName: 'ann@example.com' } },
  ])
  const refusedToken = (reason: string) => ({
    activity: 'Token refused',
    reason,
    event: {
      meta: { eventType: 'access.authorization', severity: 'Error' },
      outcome: { result: 'Unauthorized', reason },
      environment: { oauthClientId: client.client_id },
    },
  })
  await token(world, { grant_type: 'authorization_code', code: 'x', client_id: client.client_id })
  recorded('code', refusedToken('invalid_grant'))
  await token(world, { grant_type: 'refresh_token', refresh_token: 'x', client_id: client.client_id })
  recorded('refresh token', refusedToken('invalid_grant'))
  await token(world, { grant_type: 'refresh_token', refresh_token: 'x', client_id: 'nobody' })
  recorded('a client that nobody knows', { activity: 'Token refused', reason: 'invalid_client' })

  await world.apply({ accessPolicies: [] })
  const undiscovered = (activity: string) => ({
    activity,
    reason: 'no_policy',
    event: {
      meta: { eventType: 'access.discovery', severity: 'Error' },
      outcome: { result: 'Error', reason: 'no_policy' },
      environment: { userId: 'ann@example.com', oauthClientId: client.client_id },
      clientWorkload: { id: 'agents', name: 'Agents', result: 'Identified' },
    },
  })
  await refresh(world, client.client_id, tokens.refresh_token!)
  recorded('refresh without a policy', undiscovered('Token refused'))
  await browser.follow(await browser.get(url({})), callback)
  recorded('consent without a policy', undiscovered('Authorization refused'))
  await browser.get(url({ prompt: 'none' }))
  recorded('the same without a page', undiscovered('Authorization refused'))

  const post = (body: unknown) =>
    fetch(`${world.origin}/register`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })
  const registration = (reason: string) => ({ activity: 'Client registration refused', reason })
  await post({ redirect_uris: ['javascript:alert(1)'] })
  recorded('registration', registration('invalid_redirect_uri'))
  await post('not json')
  recorded('registration that is no JSON', registration('invalid_client_metadata'))
  await world.apply({ authorizationServer: { dynamicClientRegistration: false } })
  await post({ redirect_uris: [callback] })
  recorded('registration while it is off', registration('access_denied'))
  for (const [path, activity] of [
    ['/connect/introspection', 'Introspection refused'],
    ['/connect/revocation', 'Revocation refused'],
  ] as const) {
    await fetch(`${world.origin}${path}`, {
      method: 'POST',
      body: new URLSearchParams({ token: 'x', client_id: 'nobody' }),
    })
    recorded(path, { activity, reason: 'invalid_client' })
  }
  t.notMatch(JSON.stringify(world.logs), new RegExp(tokens.refresh_token!), 'no token in any of it')
})

t.test('a policy that does not fit is named in the event', async (t) => {
  const { world, recorded } = await scene(t, {
    config: {
      accessPolicies: [
        { id: 'in', name: 'Staff in', client: 'agents', server: 'gateway', trustProviders: ['staff'] },
      ],
    },
  })
  const { browser, page } = await atSignIn(world)
  const refused = await browser.follow(
    await browser.submit(page, '/password', { email: 'bob@example.com', password }),
    callback,
  )
  recorded('bob', {
    activity: 'Authorization refused',
    reason: 'trust_provider_mismatch',
    event: {
      meta: { eventType: 'access.authorization' },
      outcome: { result: 'Unauthorized', reason: 'trust_provider_mismatch' },
      environment: { userId: 'bob@example.com' },
      accessPolicy: { id: 'in', name: 'Staff in', result: 'Identified' },
    },
  })
  t.match(refused.text, /trust_provider_mismatch, [0-9a-f]{12}/, 'the page has the reference')
  await browser.submit(refused, '/deny')
  t.match(world.logs.at(-1), { event: 'consent.denied' })
})

t.test('records are bounded: what one address sends is counted, not kept without end', async (t) => {
  proves(t, 'AUDIT-03')
  const db = openDatabase(':memory:')
  const clock = new TestClock()
  const audit = createAuditLog(db, clock)
  const events = createAccessEvents(db, clock, () => ({ maxAgeMs: 86_400_000, maxRows: 1_000_000 }))
  const lines: unknown[] = []
  const log = { warn: (line: unknown) => lines.push(line) } as never
  const refuse = createRefusals({ log, audit, events, clock })
  const from = (address: string) =>
    refuse({
      event: 'sign_in.failed',
      activity: 'Sign-in refused',
      eventType: 'access.authorization',
      address,
      reason: 'ConditionFailed',
    })
  for (let i = 0; i < 200; i++) from('203.0.113.7')
  t.equal(lines.length, 200, 'the log has all of them')
  t.equal(audit.query({ page: 1, perPage: 1 }).total, 60)
  from('203.0.113.8')
  t.match(audit.query({ page: 1, perPage: 1 }).entries, [
    { client: { ip: '203.0.113.8' }, detail: { leftOutBefore: 140 } },
  ])
  audit.add({
    category: 'Tenant',
    activity: 'Configuration applied',
    actor: { type: 'Administrator', displayName: 'admin' },
    target: 'tenant',
    outcome: 'Success',
    severity: 'Info',
  })
  const many = (count: number, entry: Partial<AuditEntry>): void =>
    transaction(db, () => {
      for (let i = 0; i < count; i++) {
        audit.add({
          category: 'Authentication',
          activity: 'x',
          actor: { type: 'User', displayName: 'x' },
          target: 'x',
          outcome: 'Failure',
          severity: 'Warn',
          ...entry,
        })
      }
    })
  const total = (category: string): number => audit.query({ category, page: 1, perPage: 1 }).total
  many(20_500, {})
  audit.sweep()
  t.equal(total('Authentication'), 20_000)
  many(20_500, { category: 'AgentControllers' })
  many(100, { category: 'Agents', severity: 'Info', actor: { type: 'System', displayName: 'client' } })
  audit.sweep()
  t.equal(total('AgentControllers') + total('Agents'), 20_000, 'strangers together')
  t.equal(total('Agents'), 100)
  many(80_500, { category: 'CredentialProvider', severity: 'Info' })
  audit.sweep()
  t.equal(total('CredentialProvider'), 80_000, 'what people do')
  t.equal(
    audit.query({ category: 'Tenant', page: 1, perPage: 1 }).total,
    1,
    'what an administrator did stays',
  )
})

t.test('giving up a request without a sign-in is recorded as refusals are', async (t) => {
  proves(t, 'AUDIT-03')
  const world = await startWorld()
  t.teardown(() => world.close())
  const audit = createAuditLog(world.db, new TestClock())
  const kept = () =>
    audit
      .query({ category: 'Agents', page: 1, perPage: 100 })
      .entries.filter((entry) => (entry as AuditEntry).activity === 'Authorization denied at the page')
  const client = await register(world)
  const giveUp = async (browser: Browser): Promise<void> => {
    const page = await browser.follow(
      await browser.get(authorizeUrl(world, client.client_id, pkce().challenge)),
      callback,
    )
    await browser.submit(page, '/cancel')
  }
  for (let i = 0; i < 70; i++) await giveUp(new Browser())
  // One more each five seconds.
  t.ok(kept().length < 64, `${kept().length} of one address`)
  t.match(kept()[0], { severity: 'Warn', actor: { displayName: 'unknown' } })
  const { browser } = await obtainTokens(world)
  const url = authorizeUrl(world, client.client_id, pkce().challenge, { prompt: 'consent' })
  await browser.submit(await browser.follow(await browser.get(url), callback), '/consent', {
    decision: 'deny',
  })
  t.match(kept()[0], { severity: 'Info', actor: { displayName: 'ann@example.com' } })
})
