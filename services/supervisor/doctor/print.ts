import type { Finding, Verdict } from './step.ts'

const marks: Readonly<Record<Verdict, string>> = {
  ok: 'ok   ',
  warning: 'warn ',
  failed: 'FAIL ',
  skipped: '-    ',
}
const indent = ' '.repeat(28)

export const printFinding = ({ step, verdict, text, advice }: Finding): string =>
  `${marks[verdict]} ${step.padEnd(20)}  ${clean(text)}${advice ? `\n${indent}→ ${advice}` : ''}`

/** The one line that counts. */
export function printVerdict(findings: readonly Finding[]): string {
  const first = findings.find(({ verdict }) => verdict === 'failed')
  if (first)
    return `\nThe first thing that is wrong: ${first.step}: ${clean(first.text)}\n→ ${first.advice ?? ''}`
  const warnings = findings.filter(({ verdict }) => verdict === 'warning').length
  return `\nNothing is wrong${warnings > 0 ? `; ${warnings} to look at` : ''}.`
}

/** Words of other machines stand in it: no control characters for a terminal. */
const clean = (text: string): string => text.replace(/[\p{Cc}\u2028\u2029]/gu, ' ').slice(0, 1_000)
