import { decodeJwt } from 'jose'
import t from 'tap'
import { claimsFor, keepClaims } from '../../../services/control-plane/identity/claims.ts'
import { proves } from '../../requirements.ts'
import { obtainTokens, startWorld } from './world.ts'

t.test('a token says where the browser was only where a condition on place is in force', async (t) => {
  proves(t, 'POLICY-PLACE-05')
  const world = await startWorld({ locate: () => ({ country: 'DE', subdivisions: [] }) })
  t.teardown(() => world.close())
  const before = await obtainTokens(world)
  t.equal(decodeJwt(before.tokens.access_token).browser_ip, undefined)
  await world.apply({
    geoip: { database: 'places.mmdb' },
    accessConditions: [{ id: 'de', type: 'AembitGeoIPCondition', locations: [{ alpha2Code: 'DE' }] }],
  })
  const after = await obtainTokens(world)
  t.match(decodeJwt(after.tokens.access_token).browser_ip, /^(::ffff:)?127\.0\.0\.1$/)
})

t.test('an identity provider can not name what is ours to say', async (t) => {
  proves(t, 'POLICY-03')
  const kept = keepClaims({
    department: 'R&D',
    client_workload: 'admin',
    browser_ip: '192.0.2.1',
    idp: 'other',
    sub: 'x',
    large: 'x'.repeat(5_000),
  })
  t.same(kept, { department: 'R&D' })
  t.same(claimsFor(kept, new Set(['department', 'level', 'constructor'])), { department: 'R&D' })
})
