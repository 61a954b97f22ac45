import t from 'tap'
import { createRevocations } from '../../../services/control-plane/fleet/revocations.ts'
import { openDatabase, transaction } from '../../../services/control-plane/store/database.ts'
import { proves } from '../../requirements.ts'
import { TestClock } from '../identity/world.ts'

t.test('tokens that clients revoke push out no revocation of a person or a client', async (t) => {
  proves(t, 'OAUTH-43')
  const db = openDatabase(':memory:')
  const clock = new TestClock()
  const revocations = createRevocations(db, clock)
  const life = 900
  revocations.add({ subject: 'mallory' })
  revocations.add({ clientId: 'agent' })
  revocations.add({ subject: 'mallory', clientId: 'agent' })
  clock.offset = 1_000
  transaction(db, () => {
    for (let i = 0; i < 6_000; i++) {
      revocations.add({ jti: `jti-${i}` })
      revocations.add({ grant: `grant-${i}` })
    }
  })
  clock.offset = 2_000
  revocations.add({ jti: 'newest' })
  const live = revocations.live(life)
  t.equal(live.length, 10_003)
  t.ok(live.some(({ subject, clientId }) => subject === 'mallory' && clientId === undefined))
  t.ok(live.some(({ subject, clientId }) => subject === undefined && clientId === 'agent'))
  t.ok(live.some(({ subject, clientId }) => subject === 'mallory' && clientId === 'agent'))
  t.equal(live.at(-1)?.jti, 'newest', 'oldest first')
  t.same(
    live.map(({ at }) => at),
    live.map(({ at }) => at).sort((a, b) => a - b),
  )
})

t.test('the same revoked again is one entry, of the later time', async (t) => {
  const clock = new TestClock()
  const revocations = createRevocations(openDatabase(':memory:'), clock)
  for (const match of [{ jti: 'a' }, { subject: 'ann' }, { subject: 'ann', clientId: 'agent' }]) {
    revocations.add(match)
  }
  const [first] = revocations.live(900)
  clock.offset = 60_000
  for (const match of [{ jti: 'a' }, { subject: 'ann' }]) revocations.add(match)
  const live = revocations.live(900)
  t.equal(live.length, 3)
  t.ok((live.find(({ jti }) => jti === 'a')?.at ?? 0) >= (first?.at ?? 0) + 60)
  t.equal(live.filter(({ subject }) => subject === 'ann').length, 2)
  t.throws(() => revocations.add({}), RangeError)
  clock.offset = 2_000_000
  t.same(revocations.live(900), [])
})
