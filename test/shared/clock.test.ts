import t from 'tap'
import { askAgainAfter } from '../../services/front/certificates/stapling.ts'
import { systemClock } from '../../shared/clock.ts'
import { proves } from '../requirements.ts'

const day = 86_400_000

t.test('a sleep that is longer than any timer of Node.js is no sleep of a millisecond', async (t) => {
  proves(t, 'GW-CERT-04')
  const stop = new AbortController()
  let over = false
  const sleeps = [2 ** 31, 365 * day, Number.POSITIVE_INFINITY].map((ms) =>
    systemClock.sleep(ms, stop.signal).then(
      () => {
        over = true
      },
      () => {},
    ),
  )
  await new Promise((resolve) => setTimeout(resolve, 100))
  t.notOk(over)
  stop.abort()
  await Promise.all(sleeps)
})

t.test('an OCSP answer is asked for anew within a day, and not within a minute', async (t) => {
  proves(t, 'GW-CERT-04')
  const now = Date.now()
  t.equal(askAgainAfter({ thisUpdate: now, nextUpdate: now + 365 * day }, now), day)
  t.equal(askAgainAfter({ thisUpdate: now, nextUpdate: now + day }, now), day / 2)
  t.equal(askAgainAfter({ thisUpdate: now - day, nextUpdate: now + 1 }, now), 60_000)
})
