import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { runAuthorization } from './authorization.ts'
import { startHost } from './client/host.ts'
import { startFixture } from './fixture/server.ts'
import { startGateway } from './gateway.ts'
import { judge, readExpected } from './report.ts'
import { type Outcome, type Revision, revisions, runClientSuite, runSuite } from './suite.ts'

/**
 * `npm run conformance`: the public suite through the whole gateway to a fixture. `-- --direct` leaves the gateway
 * out, to tell the fixture's errors from the gateway's; `--legacy-server` makes the fixture one of legacy clients alone,
 * for the other two bridges, where nothing is expected; `--requirements <revision>` runs one set.
 * `--authorization` runs what the suite has for authorization servers.
 */
const { values } = parseArgs({
  options: {
    direct: { type: 'boolean', default: false },
    'legacy-server': { type: 'boolean', default: false },
    client: { type: 'boolean', default: false },
    authorization: { type: 'boolean', default: false },
    scenario: { type: 'string' },
    requirements: { type: 'string' },
  },
})
const chosen: readonly Revision[] = revisions.filter(
  (revision) => !values.requirements || values.requirements === revision,
)
if (chosen.length === 0) throw new Error(`--requirements is one of ${revisions.join(', ')}`)

/** The suite's servers behind the gateway, which is then the client that is judged. */
async function runClient(revision: Revision): Promise<Outcome[]> {
  const host = await startHost(revision)
  try {
    const driver = fileURLToPath(new URL('client/driver.ts', import.meta.url))
    const command = `${process.execPath} ${driver}`
    return await runClientSuite(command, revision, { CONFORMANCE_HOST: host.url }, values.scenario)
  } finally {
    await host.close()
  }
}

const print = (verdict: ReturnType<typeof judge>): boolean => {
  console.log(verdict.lines.join('\n'))
  return verdict.ok
}

if (values.authorization) {
  const verdict = judge('2026-07-28', await runAuthorization(), {})
  console.log(['authorization server', ...verdict.lines.slice(1)].join('\n'))
  console.log(`\n${verdict.passed} passed, ${verdict.required - verdict.passed} failed`)
  process.exit(verdict.ok ? 0 : 1)
}

if (values.client) {
  const expected = await readExpected('client/not-applicable.yaml')
  // Each revision has a world of its own, so they need not wait for each other.
  const verdicts = await Promise.all(
    chosen.map(async (revision) => ({ revision, ...judge(revision, await runClient(revision), expected) })),
  )
  const ok = verdicts.map(print).every(Boolean)
  const counts = verdicts.map(
    ({ revision, passed, required }) =>
      `${revision}: ${passed} of ${required} required client scenarios pass`,
  )
  const passed = verdicts.reduce((sum, verdict) => sum + verdict.passed, 0)
  console.log(`\nThe gateway as the client\n${counts.join('\n')}`)
  console.log(`${passed} passed, ${ok ? 0 : 1} failed`)
  process.exit(ok ? 0 : 1)
}

const fixture = await startFixture(values['legacy-server'] ? 'legacy' : 'both')
try {
  const gateway = values.direct ? undefined : await startGateway(fixture.url)
  try {
    const expected = gateway && !values['legacy-server'] ? await readExpected() : {}
    const counts: string[] = []
    let ok = true
    let scenarios = 0
    for (const revision of chosen) {
      const verdict = judge(revision, await runSuite(gateway?.url ?? fixture.url, revision), expected)
      counts.push(`${revision}: ${verdict.passed} of ${verdict.required} required scenarios pass`)
      ok = print(verdict) && ok
      scenarios += verdict.passed
    }
    console.log(`\n${gateway ? 'Through the gateway' : 'Straight to the fixture'}\n${counts.join('\n')}`)
    console.log(`${scenarios} passed, ${ok ? 0 : 1} failed`)
    process.exitCode = ok ? 0 : 1
  } finally {
    await gateway?.close()
  }
} finally {
  await fixture.close()
}
