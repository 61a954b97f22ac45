import t from 'tap'
import { judge } from './report.ts'
import type { Outcome } from './suite.ts'

const outcome = (scenario: string, failures: string[], required = true): Outcome => ({
  scenario,
  required,
  passed: 1,
  skipped: 0,
  warnings: [],
  failures,
})
const revision = '2025-11-25'
const ok = (outcomes: Outcome[], reasons: Record<string, string> = {}): boolean =>
  judge(revision, outcomes, { [revision]: reasons }).ok

t.test('the verdict of a conformance run', async (t) => {
  t.ok(ok([outcome('ping', [])]))
  t.notOk(ok([outcome('ping', ['no answer'])]), 'a failure')
  t.ok(ok([outcome('ping', ['no answer'])], { ping: 'not built' }), 'an expected failure')
  t.notOk(ok([outcome('ping', [])], { ping: 'not built' }), 'an expectation that is out of date')
  t.notOk(ok([outcome('ping', [])], { pong: 'not built' }), 'an expectation of something unknown')
  t.ok(ok([outcome('tasks', ['no answer'], false)]), 'what is unscored does not count')
  t.match(judge(revision, [outcome('ping', ['no answer']), outcome('tools', [])], {}), {
    required: 2,
    passed: 1,
    lines: [revision, /ping +FAILS/, /no answer/, /tools +passes/],
  })
})
