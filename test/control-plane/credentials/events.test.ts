import { test } from 'tap'
import { proves } from '../../requirements.ts'
import { connect, scene, signIn } from '../fleet/credential-rig.ts'
import { Browser } from '../identity/browser.ts'

test('access.credential says who asked, by which policy and provider, and what came of it', async (t) => {
  proves(t, 'EVENT-06')
  const { plane, upstream } = await scene(t)
  const last = () => plane.events()[0]
  await plane.ask('ann')
  t.match(last(), {
    meta: { eventType: 'access.credential', severity: 'Warning', eventId: String, contextId: String },
    clientRequest: { version: '1.0.0', network: { targetHost: '127.0.0.1', transportProtocol: 'TCP' } },
    environment: { userId: 'ann@example.com', oauthClientId: 'agent' },
    outcome: { result: 'Error', reason: 'not_connected' },
    serverWorkload: { id: 'notes', name: 'Notes', result: 'Identified' },
    accessPolicy: { id: 'notes', result: 'Identified' },
    trustProviders: [{ id: 'staff', result: 'Attested' }],
    credentialProvider: {
      id: 'notes-account',
      type: 'mcp-user-based-access-token',
      result: 'Identified',
      reason: 'not_connected',
    },
  })
  const browser = new Browser()
  await connect(plane, upstream, 'ann', browser)
  await plane.ask('ann')
  t.match(last(), {
    meta: { severity: 'Info' },
    outcome: { result: 'Authorized', reason: undefined },
    credentialProvider: { result: 'Retrieved', maxAge: 300 },
  })
  upstream.tokenStatus = 503
  plane.clock.offset += 3_600_000
  await t.rejects(plane.ask('ann'))
  t.match(last(), { outcome: { result: 'Error', reason: /upstream\.rejected/ } })
  upstream.tokenStatus = undefined
  plane.clock.offset += 3_600_000
  await upstream.revokeGrants('ann-at-notes')
  await plane.ask('ann')
  t.match(last(), { outcome: { result: 'Error', reason: 'invalid_grant' } }, 'not into silence')
  await signIn(plane, 'eve')
  await plane.ask('eve')
  t.match(last(), { outcome: { result: 'Unauthorized', reason: 'trust_provider_mismatch' } })
  await plane.ask('mallory')
  t.match(last(), { outcome: { result: 'Unauthorized', reason: 'user_unknown' } })
  const list = await browser.get(`${plane.origin}/connections`)
  await browser.submit(list, '/disconnect')
  await browser.submit(list, '/disconnect')
  t.match(plane.audit('CredentialProvider'), [
    { category: 'CredentialProvider', activity: 'Account disconnected', target: 'notes' },
    {
      category: 'CredentialProvider',
      activity: 'Connection ended',
      target: 'notes',
      detail: { reason: 'invalid_grant' },
    },
    {
      category: 'CredentialProvider',
      activity: 'Account connected',
      actor: { displayName: 'ann@example.com' },
    },
  ])
  t.notMatch(JSON.stringify(plane.events()), /Bearer|refresh_token|ticket=/)
})
