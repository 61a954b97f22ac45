import t from 'tap'
import { createAccessEvents } from '../../../../services/control-plane/events/access.ts'
import { createAuditLog } from '../../../../services/control-plane/events/audit.ts'
import { isDynamic, resolve, resolveOne } from '../../../../shared/dynamic-claims.ts'
import { proves } from '../../../requirements.ts'
import { TestClock } from '../world.ts'
import { samlScene } from './scene.ts'

t.test('dynamic claims of SAML', async (t) => {
  proves(t, 'SAML-10')
  const { world, idp, answered } = await samlScene(t)
  await answered({
    attributes: {
      email: ['ann@example.com'],
      'http://schemas.example/dept': ['R&amp;D'],
      role: ['dev', 'ops'],
      huge: ['x'.repeat(5000)],
    },
  })
  const claims = world.plane.accounts.find('ann@example.com')?.claims ?? {}
  // biome-ignore-start lint/suspicious/noTemplateCurlyInString: the expressions themselves
  for (const [text, value] of [
    ['${saml.response.subject.nameId}', 'Ann@Example.com'],
    ['${saml.response.issuer}', idp.entityId],
    ["${saml.response.attributes['http://schemas.example/dept']}", 'R&D'],
    ['u-${saml.response.attributes["email"]}-x', 'u-ann@example.com-x'],
    ["${saml.response.attributes['none']}", undefined],
    ["${saml.response.attributes['huge']}", undefined],
    ["${saml.response.attributes['role']}", undefined],
  ] as const) {
    t.equal(resolveOne(text, claims), value, text)
    t.equal(isDynamic(text), 'dynamic')
  }
  t.same(
    resolve("${saml.response.attributes['role']}", claims),
    ['dev', 'ops'],
    'a list, where a list may be',
  )
  for (const text of [
    '${saml.response.subject}',
    '${saml.response.attributes[\'a"]}',
    '${saml.response.attributes[a]}',
  ]) {
    t.equal(isDynamic(text), 'broken', text)
  }
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: the expressions themselves
})

t.test('a refused sign-in leaves its reason where operators look', async (t) => {
  proves(t, 'SAML-11')
  const { world, answered } = await samlScene(t)
  const clock = new TestClock()
  const events = createAccessEvents(world.db, clock, () => ({ maxAgeMs: 86_400_000, maxRows: 1000 }))
  const audit = createAuditLog(world.db, clock)
  for (const [over, reason] of [
    [{ sign: 'none' }, 'InvalidSignature'],
    [{ audience: 'https://other.example' }, 'ConditionFailed'],
    [{ nameIdFormat: 'urn:oasis:names:tc:SAML:2.0:nameid-format:transient' }, 'MatchRuleFailed'],
  ] as const) {
    const answer = await answered(over)
    const reference = /<code>([0-9a-f]{12})<\/code>/.exec(answer.text)?.[1]
    t.ok(reference, 'the person has something to tell')
    const [event] = events.query({ spanLastHours: 1, page: 1, perPage: 1 }).events
    t.match(event, {
      meta: { eventType: 'access.authorization', severity: 'Error' },
      outcome: { result: 'Unauthorized', reason },
      environment: { userId: null, reference },
      trustProviders: [{ id: 'corp', name: 'Corp SAML', result: 'Unauthorized', reason }],
    })
    const [entry] = audit.query({ category: 'Authentication', page: 1, perPage: 1 }).entries
    t.match(entry, { outcome: 'Failure', target: 'Corp SAML', detail: { reason, reference } })
    t.ok(world.logs.some((line) => line.reference === reference && line.event === 'sign_in.failed'))
    t.notMatch(answer.text, /audience|NameID|signature/i, 'the person is told no protocol')
  }
})
