import t from 'tap'
import { citationsIn, runProblems, staticProblems } from './citations.ts'
import { readProofs } from './tap.ts'

const proofsOf = (text: string) => {
  const proofs = readProofs()
  for (const line of text.split('\n')) proofs.line(line)
  const { proved, failed } = proofs.end()
  return { proved: [...proved].sort(), failed: [...failed].sort() }
}

const file = (inside: string, verdict: string): string =>
  `# Subtest: a.test.ts\n${inside
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n')}\n${verdict} 1 - a.test.ts\n`

t.test('a citation holds when its test and all around it passed', async (t) => {
  const nested = '# Subtest: x\n    # proves: A-1 A-2\n    ok 1 - fine\n    1..1\nok 1 - x # time=1ms'
  t.same(proofsOf(file(nested, 'ok')), { proved: ['A-1', 'A-2'], failed: [] })
  t.same(proofsOf(file(nested, 'not ok')), { proved: [], failed: ['A-1', 'A-2'] })
  t.same(proofsOf(file(nested.replace('\nok 1 - x', '\nnot ok 1 - x'), 'not ok')), {
    proved: [],
    failed: ['A-1', 'A-2'],
  })
})

t.test('skipped, to do, unfinished: nothing is proved', async (t) => {
  const skipped = '# Subtest: x\n    # proves: A-1\n    1..0\nok 1 - x # SKIP no database'
  t.same(proofsOf(file(skipped, 'ok')), { proved: [], failed: ['A-1'] })
  t.same(proofsOf(file(skipped.replace('SKIP no database', 'TODO'), 'ok')), { proved: [], failed: ['A-1'] })
  t.same(proofsOf('# Subtest: a.test.ts\n    # proves: A-1\n'), { proved: [], failed: ['A-1'] })
})

t.test('buffered subtests say their verdict first', async (t) => {
  t.same(proofsOf('ok 1 - a {\n    # proves: A-1\n    1..1\n}\n'), { proved: ['A-1'], failed: [] })
  t.same(proofsOf('not ok 1 - a {\n    # proves: A-1\n    1..1\n}\n'), { proved: [], failed: ['A-1'] })
})

t.test('what a diagnostic shows is no verdict', async (t) => {
  const inside =
    '# Subtest: x\n    # proves: A-1\n    not ok 1 - y\n      ---\n      diff: |\n    ok 2 - z\n      ...\nnot ok 1 - x'
  t.same(proofsOf(file(inside, 'not ok')), { proved: [], failed: ['A-1'] })
})

t.test('rows without a test, tests without a row, tests that did not run', async (t) => {
  const call = (...ids: string[]): string => `proves(t, ${ids.map((id) => `'${id}'`).join(', ')})`
  const citations = citationsIn([
    ['test/a.test.ts', `${call('A-1')}\n${call('A-2', 'A-9').replace(', ', ',\n  ')}`],
    ['test/b.test.ts', call('A-2')],
  ])
  t.same(staticProblems(['A-1', 'A-2', 'A-3'], citations), [
    'A-3: no test cites it',
    'A-9: cited by test/a.test.ts and not in the table',
  ])
  const proofs = { proved: new Set(['A-1']), failed: new Set<string>() }
  t.same(runProblems(citations, ['test/a.test.ts'], proofs), ['A-9: cited in test/a.test.ts, did not run'])
  t.match(runProblems(citations, ['test/a.test.ts', 'test/b.test.ts'], proofs), [/^A-2: cited in/, /^A-9/])
  t.match(runProblems(citations, [], { proved: new Set(), failed: new Set(['A-1']) }), [
    /^A-1: its test failed/,
  ])
})
