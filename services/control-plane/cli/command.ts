import type { Env } from '../../../shared/config/env.ts'
import type { AdminApi } from './admin-api.ts'
import type { Given, OptionTable } from './options.ts'

export const exits = { done: 0, refused: 1, usage: 2, unreachable: 3 } as const

/** What a command found out: the same for people and for scripts. */
export interface Outcome {
  /** For a person. */
  readonly text: string
  /** `--json`. */
  readonly data: unknown
  /** `refused` where the answer is a no. */
  readonly exit?: number
}

export interface Run {
  readonly values: Given
  readonly positionals: readonly string[]
  readonly api: () => AdminApi
  readonly env: Env
  /** Standard input, read whole. */
  readonly stdin: () => Promise<string>
}

export interface Command {
  /** `kill-switch add`. */
  readonly name: string
  /** What stands after the name in the usage, and what the command does. */
  readonly usage: readonly [args: string, text: string]
  readonly options: OptionTable
  readonly positionals?: readonly string[]
  /** Throws UsageFault, Refusal or Unreachable. */
  run(run: Run): Promise<Outcome>
}

/** Rows under a heading, columns aligned. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)))
  return rows
    .map((row) =>
      row
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** 2026-11-23T10:00:00.000Z → 2026-11-23 10:00:00Z. */
export const time = (iso: unknown): string =>
  typeof iso === 'string' ? `${iso.slice(0, 10)} ${iso.slice(11, 19)}Z` : '-'
