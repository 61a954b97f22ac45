import { readFileSync } from 'node:fs'
import t from 'tap'
import { proves } from '../requirements.ts'
import { startAttackRig } from './rig.ts'
import { areas, count, renderTable } from './table.ts'

/** Every attack of the table through the whole appliance: none gets in or across. */
const rig = await startAttackRig()
t.teardown(() => rig.end())

await t.test('what is refused below works for who is entitled to it', async (t) => {
  proves(t, 'ATTACK-01')
  const { status, body } = await rig.send()
  t.equal(status, 200)
  t.match(body, /tweet/, 'Ann reaches the server')
  t.equal(rig.canary.calls.splice(0).length, 1)
  t.equal(
    (await rig.send({ token: await rig.forge() })).status,
    200,
    'a forged token with true claims is taken',
  )
  rig.canary.calls.length = 0
  const client = `${rig.site.origin}/client.json`
  const page = await rig.ann.browser.follow(await rig.ann.browser.get(rig.link(client)))
  t.match(page.text, /\/consent"/, 'and a client id metadata document of an allowed host')
})

for (const { title, attacks } of areas) {
  await t.test(title, async (t) => {
    for (const { attack, run } of attacks) {
      try {
        await run(rig)
        t.pass(attack)
      } catch (error) {
        t.fail(attack, {
          error: String(error instanceof Error ? (error.stack ?? error.message) : error).slice(0, 1500),
        })
      }
      const reached = rig.canary.calls.splice(0).length
      // The one that shows that a revoked token worked before calls it itself, once.
      t.ok(reached === 0 || attack === 'a revoked token', `${attack}: the server was not reached`)
    }
  })
}

t.test('the table for auditors is the one that ran', async (t) => {
  proves(t, 'ATTACK-02')
  t.ok(count >= 90, `${count} attacks`)
  t.equal(readFileSync(new URL('../../docs/attacks.md', import.meta.url), 'utf8'), renderTable())
})
