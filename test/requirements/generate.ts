import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { areas } from './areas.ts'
import { readCitations, staticProblems } from './citations.ts'
import type { Requirement } from './requirement.ts'

/**
 * Writes docs/requirements.md (`npm run generate`). `--check` (part of `npm run check`) writes nothing, and fails where the
 * document is out of step, where a row has no citation and where an id stands twice.
 */
const root = fileURLToPath(new URL('../../', import.meta.url))
const target = new URL('../../docs/requirements.md', import.meta.url)

const entries = areas.flatMap(({ rows }) => Object.entries<Requirement>(rows))
const cell = (text: string): string => text.replaceAll('|', '\\|')
const table = (rows: Readonly<Record<string, Requirement>>): string =>
  Object.entries(rows)
    .map(([id, { source, text }]) => `| \`${id}\` | ${cell(text)} | ${cell(source)} |`)
    .join('\n')

const document = `# Requirements

What the product promises, and where each promise comes from. A test cites what it shows by \`proves(t, 'ID')\`:
\`git grep -n "'ID'" test\` finds the tests of a row. \`npm test\` fails where a row has no test that ran and passed.
Generated from \`test/requirements/\`: ${entries.length} rows.
${areas.map(({ title, rows }) => `\n## ${title}\n\n| id | behaviour | source |\n|---|---|---|\n${table(rows)}\n`).join('')}`

if (process.argv.includes('--check')) {
  const ids = entries.map(([id]) => id)
  const twice = ids.filter((id, index) => ids.indexOf(id) !== index).map((id) => `${id}: stands twice`)
  const problems = [...twice, ...staticProblems(ids, readCitations(root))]
  let found = ''
  try {
    found = readFileSync(target, 'utf8')
  } catch {
    // Absent is out of step like any other difference.
  }
  if (found !== document)
    problems.push('docs/requirements.md is out of step with the table: run npm run generate')
  for (const problem of problems) console.error(problem)
  if (problems.length > 0) process.exitCode = 1
} else {
  writeFileSync(target, document)
}
