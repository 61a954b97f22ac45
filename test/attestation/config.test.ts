import { cpSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { calculateJwkThumbprint } from 'jose'
import { test } from 'tap'
import { parseConfig } from '../../services/control-plane/config/load.ts'
import { openDatabase } from '../../services/control-plane/store/database.ts'
import {
  assertion,
  controllerKeys,
  enrol,
  movable,
  post,
  startFleet,
  yaml,
} from '../control-plane/fleet/rig.ts'
import { proves } from '../requirements.ts'

const problemsOf = (controllers: string): readonly string[] => {
  try {
    parseConfig(`${yaml()}\nagentControllers:\n${controllers}\n`, 'test.yaml', { env: {} })
    return []
  } catch (error) {
    return (error as { problems: string[] }).problems
  }
}

test('trust providers that admit anybody or are malformed are told, all at once, with their place', (t) => {
  proves(t, 'AC-ATTEST-09')
  const problems = problemsOf(`
  - {id: gateways, trustProvider: {provider: AWSRole, matchRules: [{attribute: AwsAssumedRole, value: gw}]}}
  - id: 7a3f1c9e-0000-4000-8000-000000000001
    trustProvider: {provider: GcpIdentityToken, matchRules: [{attribute: GcpZone, value: z}]}
  - id: 7a3f1c9e-0000-4000-8000-000000000001
    trustProvider: {provider: AzureMetadataService, certificates: [{value: none}], matchRules: [{attribute: AzureVmId, value: v}]}
  - {id: 7a3f1c9e-0000-4000-8000-000000000002, trustProvider: {provider: Guess}}
  - {id: 7a3f1c9e-0000-4000-8000-000000000003, trustProvider: {provider: AWSMetadataService, certificates: [], matchRules: [{attribute: AwsAcountId, value: v}]}}`)
  for (const wanted of [
    /^test\.yaml:\d+:\d+ agentControllers\[0\]\.id: is no UUID, make one with uuidgen/,
    /agentControllers\[0\]\.trustProvider\.matchRules: would admit anybody's machines, add a rule on one of AwsAccountId, AwsRoleARN/,
    /agentControllers\[1\]\.trustProvider\.matchRules: would admit anybody's machines/,
    /agentControllers\[2\]\.id: .* is the id of agentControllers\[1\] too/,
    /agentControllers\[2\]\.trustProvider\.certificates\[0\]: holds no certificate in PEM/,
    /agentControllers\[3\]\.trustProvider\.provider: .* choose one of/,
    /agentControllers\[4\]\.trustProvider\.certificates: /,
    /agentControllers\[4\]\.trustProvider\.matchRules\[0\]\.attribute: "AwsAcountId" is not one of/,
  ]) {
    t.ok(
      problems.some((problem) => wanted.test(problem)),
      String(wanted),
    )
  }
  if (!t.passing()) t.comment(problems.join('\n'))
  t.end()
})

test('a machine that is silent for 90 seconds is shown as disconnected, once, and its return too', async (t) => {
  proves(t, 'AC-HEALTH-01')
  const clock = movable()
  const fleet = await startFleet({ clock })
  t.teardown(fleet.close)
  const { id, controllerToken } = await enrol(fleet)
  const report = () =>
    post(fleet.http, '/controller/v1/health', { version: '1', hostname: 'h', uptimeSecs: 1 }, controllerToken)
  const events = () =>
    fleet.audit
      .query({ category: 'AgentControllers', page: 1, perPage: 100 })
      .entries.map((entry) => (entry as { activity: string }).activity)
  t.match(await report(), { status: 204 })
  t.same(events(), ['Agent controller connected'])
  clock.advance(60_000)
  await report()
  clock.advance(89_999)
  fleet.controllers.watch()
  t.equal(fleet.controllers.find(id)?.healthy, true)
  clock.advance(1)
  t.equal(fleet.controllers.find(id)?.healthy, false)
  fleet.controllers.watch()
  fleet.controllers.watch()
  t.same(events(), ['Agent controller disconnected', 'Agent controller connected'])
  await report()
  t.same(events().length, 3, 'and once more that it is back')
  t.equal(fleet.controllers.find(id)?.healthy, true)
})

test('a database of an earlier version keeps its registered controllers', async (t) => {
  proves(t, 'AC-01')
  const folder = t.testdir({ migrations: {} })
  const migrations = join(import.meta.dirname, '../../services/control-plane/store/migrations')
  for (const name of readdirSync(migrations)) {
    if (name < '130-') cpSync(join(migrations, name), join(folder, 'migrations', name))
  }
  const path = join(folder, 'control-plane.db')
  const { publicJwk, privateJwk } = controllerKeys()
  const kid = await calculateJwkThumbprint(publicJwk)
  const id = '0b1e0000-0000-4000-8000-000000000001'
  const before = openDatabase(path, join(folder, 'migrations'))
  before
    .prepare('INSERT INTO agent_controller VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)')
    .run(id, 'vm-1', JSON.stringify({ ...publicJwk, kid }), '0.1.0', 'host-a', 1, 2, 3, 4)
  before.close()
  const fleet = await startFleet({ path })
  t.teardown(fleet.close)
  t.match(fleet.controllers.find(id), {
    name: 'vm-1',
    provider: null,
    instances: [{ kid, hostname: 'host-a', registeredAt: 2, lastHealthAt: 4 }],
  })
  const body = { controllerId: id, assertion: await assertion(privateJwk, id) }
  t.match(await post(fleet.http, '/controller/v1/token', body), { status: 200 })
})
