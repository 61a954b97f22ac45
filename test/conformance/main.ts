import { parseArgs } from 'node:util'
import { startFixture } from './fixture/server.ts'
import { startGateway } from './gateway.ts'
import { judge, readExpected } from './report.ts'
import { type Revision, revisions, runSuite } from './suite.ts'

/**
 * `npm run conformance`: the public suite through the whole gateway to a fixture. `-- --direct` leaves the gateway
 * out, to tell the fixture's errors from the gateway's; `--legacy-server` makes the fixture one of legacy clients alone,
 * for the other two bridges, where nothing is expected; `--requirements <revision>` runs one set.
 */
const { values } = parseArgs({
  options: {
    direct: { type: 'boolean', default: false },
    'legacy-server': { type: 'boolean', default: false },
    requirements: { type: 'string' },
  },
})
const chosen: readonly Revision[] = revisions.filter(
  (revision) => !values.requirements || values.requirements === revision,
)
if (chosen.length === 0) throw new Error(`--requirements is one of ${revisions.join(', ')}`)

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
      console.log(verdict.lines.join('\n'))
      counts.push(`${revision}: ${verdict.passed} of ${verdict.required} required scenarios pass`)
      ok &&= verdict.ok
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
