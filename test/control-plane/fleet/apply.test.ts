import { test } from 'tap'
import { proves } from '../../requirements.ts'
import { configOf, issuerKeys, startFleet, yaml } from './rig.ts'

test('a configuration that can not be written whole is not in force in part', async (t) => {
  proves(t, 'POLICY-APPLY-01')
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const before = fleet.snapshots.current()
  const versions = () => JSON.stringify(fleet.db.prepare('SELECT * FROM policy_version').all())
  const controllers = () => fleet.db.prepare('SELECT count(*) AS n FROM agent_controller').get()?.n
  const written = [versions(), controllers()]
  const changed = configOf(yaml().replace('id: in, ', 'id: in, active: false, '))
  const entered: string[] = []
  const write = (fails: boolean) => () => {
    fleet.controllers.create('beside the snapshot')
    fleet.controllers.declare({ agentControllers: [] })
    if (fails) throw new Error('database or disk is full')
    return () => void entered.push('entered')
  }
  await t.rejects(fleet.snapshots.apply(changed, issuerKeys, write(true)), { message: /full/ })
  t.equal(fleet.snapshots.current(), before, 'the former policy goes on')
  t.same([versions(), controllers()], written, 'and nothing of the new one is written')
  t.same(entered, [])
  const { etag } = await fleet.snapshots.apply(changed, issuerKeys, write(false))
  t.equal(fleet.snapshots.current().etag, etag)
  t.equal(controllers(), Number(written[1]) + 1)
  t.same(entered, ['entered'])
})
