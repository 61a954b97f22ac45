import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Proofs } from './tap.ts'

/** Id → the files that cite it by a call of `proves`. */
export type Citations = ReadonlyMap<string, readonly string[]>

export function citationsIn(files: Iterable<readonly [path: string, text: string]>): Citations {
  const found = new Map<string, string[]>()
  for (const [path, text] of files) {
    for (const [, args = ''] of text.matchAll(/\bproves\(\s*[\w.]+\s*,([^)]*)\)/g)) {
      for (const [, id = ''] of args.matchAll(/'([A-Z0-9-]+)'/g)) {
        const paths = found.get(id) ?? []
        if (!paths.includes(path)) found.set(id, [...paths, path].sort())
      }
    }
  }
  return found
}

/** Over everything that runs: tests, and the runs that are no tests (conformance, interoperability). */
export const readCitations = (root: string): Citations =>
  citationsIn(
    globSync('test/**/*.ts', { cwd: root })
      .filter((path) => !path.startsWith('test/requirements'))
      .map((path) => [path, readFileSync(join(root, path), 'utf8')] as const),
  )

/** What can be seen without running anything: rows that nothing cites, and citations of what is no row. */
export const staticProblems = (ids: readonly string[], citations: Citations): string[] => [
  ...ids.filter((id) => !citations.has(id)).map((id) => `${id}: no test cites it`),
  ...[...citations].flatMap(([id, paths]) =>
    ids.includes(id) ? [] : [`${id}: cited by ${paths.join(', ')} and not in the table`],
  ),
]

/**
 * What a run over `ran` left unproved: every id whose citations all stand in these files has to be proved by them. An id
 * that is cited elsewhere too is that run's to judge.
 */
export function runProblems(citations: Citations, ran: readonly string[], proofs: Proofs): string[] {
  const files = new Set(ran)
  return [...citations].flatMap(([id, paths]) => {
    if (proofs.proved.has(id)) return []
    if (proofs.failed.has(id)) return [`${id}: its test failed (${paths.join(', ')})`]
    return paths.every((path) => files.has(path)) ? [`${id}: cited in ${paths.join(', ')}, did not run`] : []
  })
}
