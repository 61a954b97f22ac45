import { readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import type { Outcome, Revision } from './suite.ts'

/** Why a required scenario may fail, by revision and scenario. */
export type Expected = Partial<Record<Revision, Record<string, string> | null>>

export async function readExpected(file = 'expected-failures.yaml'): Promise<Expected> {
  const text = await readFile(new URL(file, import.meta.url), 'utf8')
  return (parse(text) as Expected | null) ?? {}
}

export interface Verdict {
  readonly lines: readonly string[]
  readonly required: number
  readonly passed: number
  readonly ok: boolean
}

/** A table of one run and what it means. An expectation of something that passes is an error as well: it only shrinks. */
export function judge(revision: Revision, outcomes: readonly Outcome[], expected: Expected): Verdict {
  const reasons = expected[revision] ?? {}
  const width = Math.max(...outcomes.map(({ scenario }) => scenario.length))
  let ok = true
  const lines = outcomes.flatMap(({ scenario, required, passed, skipped, warnings, failures }) => {
    const reason = reasons[scenario]
    const failed = failures.length > 0
    const details = [...failures.map((text) => `    ${text}`), ...warnings.map((text) => `    (${text})`)]
    const line = (word: string): string =>
      `  ${scenario.padEnd(width)}  ${word.padEnd(16)} ${passed} passed, ${failures.length} failed, ${warnings.length} warned, ${skipped} skipped`
    if (!required) {
      if (failed) return [line('unscored, fails'), ...details]
      return [line(passed > 0 ? 'unscored, passes' : 'unscored, untried')]
    }
    if (reason !== undefined && failed) return [line('expected to fail'), `    because ${reason}`, ...details]
    if (reason !== undefined || failed) ok = false
    if (reason !== undefined) return [line('PASSES'), '    remove it from the file of expected failures']
    return [line(failed ? 'FAILS' : 'passes'), ...details]
  })
  const known = new Set(outcomes.filter(({ required }) => required).map(({ scenario }) => scenario))
  for (const scenario of Object.keys(reasons).filter((name) => !known.has(name))) {
    ok = false
    lines.push(`  ${scenario}: expected to fail, but not required`)
  }
  const required = outcomes.filter((outcome) => outcome.required)
  const passed = required.filter(({ failures }) => failures.length === 0).length
  return { lines: [revision, ...lines], required: required.length, passed, ok }
}
