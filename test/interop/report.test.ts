import t from 'tap'
import type { Cell, Outcome } from './cells.ts'
import { complaints, type Matrix, page, summary, withSummary } from './report.ts'

const cell = (server: string, operation: Cell['operation'], outcome: Outcome): Cell => ({
  client: 'c',
  server,
  operation,
  outcome,
  ms: 12,
})
const matrix: Matrix = {
  clients: [{ id: 'c', label: 'Client' }],
  servers: [
    { id: 'a', label: 'A' },
    { id: 'b', label: 'B' },
  ],
  cells: [
    cell('a', 'call', { kind: 'works' }),
    cell('a', 'elicit', { kind: 'unable', reason: 'has no person' }),
    cell('b', 'call', { kind: 'fails', reason: 'HTTP 500 at 10:31' }),
    cell('b', 'read', { kind: 'works' }),
  ],
  expected: [],
}
const known = { client: 'c', server: 'b', operation: 'call' as const, reason: 'not built yet' }

t.test('a failure that nobody expects, and an expectation that is met, are complaints', async (t) => {
  t.same(complaints(matrix), ['Client × B: call: HTTP 500 at 10:31'])
  t.same(complaints({ ...matrix, expected: [known] }), [])
  t.match(complaints({ ...matrix, expected: [known, { ...known, operation: 'read' }] }), [
    /take it off the list/,
  ])
  t.match(complaints({ ...matrix, expected: [known, { ...known, server: 'z' }] }), [/unknown z/])
})

t.test('the table: what works, what a client can not do, what fails and why', async (t) => {
  t.match(summary(matrix), /\| Client \| 1\/1 \| 1\/2 \|/, 'what a client can not do does not count')
  const text = page({ ...matrix, expected: [known] })
  t.match(text, /\| Client \| \? \| \? \| ✓ \|.*\| –<sup>1<\/sup> \|/)
  t.match(text, /✗<sup>2<\/sup>/)
  t.match(text, /1\. has no person\n2\. not built yet/)
  t.notMatch(text, /10:31/, 'nothing that changes from run to run')
})

t.test('the summary goes between its marks and nowhere else', async (t) => {
  const before = 'x\n<!-- npm run interop -->\nold\n<!-- /npm run interop -->\ny\n'
  const after = withSummary(before, matrix)
  t.match(after, /^x\n<!-- npm run interop -->\n\n\|/)
  t.notMatch(after, /old/)
  t.equal(withSummary(after, matrix), after, 'twice is once')
  t.throws(() => withSummary('no marks', matrix), /has no/)
})
