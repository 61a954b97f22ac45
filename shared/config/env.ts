import { createHash } from 'node:crypto'
import { Fault } from '../faults.ts'

/**
 * Static configuration as a table: one row per environment variable, read once, every problem told at once.
 * An empty value counts as absent (`KEY=` in an env file). Keys with the prefix that the table does not know are
 * refused, because a misspelt limit that is silently ignored is worse than a start that fails.
 */
export type Env = Readonly<Record<string, string | undefined>>

/** What is wrong, and where; `message` never holds the value of a secret. */
export interface Problem {
  readonly key: string
  readonly message: string
}

/** Takes the text of a variable; throws an Error whose message says what was expected. */
export type Parse<T> = (raw: string) => T

export interface EnvKey<T> {
  readonly parse: Parse<T>
  /** Absent: the variable is required. */
  readonly fallback?: { readonly value: T }
  /** One line for people. */
  readonly text: string
  /** Never printed. */
  readonly secret: boolean
}

export type EnvTable = Readonly<Record<string, EnvKey<unknown>>>
export type EnvValues<T extends EnvTable> = {
  readonly [K in keyof T]: T[K] extends EnvKey<infer V> ? V : never
}

export const required = <T>(parse: Parse<T>, text: string): EnvKey<T> => ({ parse, text, secret: false })

export const optional = <T, D>(parse: Parse<T>, fallback: D, text: string): EnvKey<T | D> => ({
  parse,
  fallback: { value: fallback },
  text,
  secret: false,
})

export const secret = <T>(key: EnvKey<T>): EnvKey<T> => ({ ...key, secret: true })

export type EnvResult<V> = { readonly ok: V } | { readonly problems: readonly Problem[] }

export interface ReadEnvOptions<T extends EnvTable> {
  /** AEMBIT_ unless told. */
  readonly prefix?: string
  /** Rules between keys; sees only the values that parsed, and tells further problems. */
  readonly check?: (
    values: Partial<EnvValues<T>>,
    problem: (key: keyof T & string, message: string) => void,
  ) => void
}

export function readEnv<T extends EnvTable>(
  env: Env,
  table: T,
  { prefix = 'AEMBIT_', check }: ReadEnvOptions<T> = {},
): EnvResult<EnvValues<T>> {
  const problems: Problem[] = []
  const values: Record<string, unknown> = {}
  for (const [key, { parse, fallback }] of Object.entries(table)) {
    const raw = env[key]?.trim() ?? ''
    if (raw === '') {
      if (fallback) values[key] = fallback.value
      else problems.push({ key, message: 'is required' })
      continue
    }
    try {
      values[key] = parse(raw)
    } catch (error) {
      problems.push({ key, message: error instanceof Error ? error.message : String(error) })
    }
  }
  for (const key of Object.keys(env)) {
    if (!key.startsWith(prefix) || Object.hasOwn(table, key)) continue
    const near = closest(key, Object.keys(table))
    problems.push({
      key,
      message: `is not a setting of this program${near ? `; did you mean ${near}?` : ''}`,
    })
  }
  check?.(values as Partial<EnvValues<T>>, (key, message) => problems.push({ key, message }))
  return problems.length === 0 ? { ok: values as EnvValues<T> } : { problems }
}

/** Exit code of every program of ours for a configuration or an address it can not start with. */
export const invalidConfigExit = 2

/** For stderr: one line per problem. */
export function formatProblems(program: string, problems: readonly Problem[]): string {
  const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`
  return [
    `${program}: the configuration has ${count}:`,
    ...problems.map((p) => `  ${p.key}: ${p.message}`),
  ].join('\n')
}

export function problemsFault(problems: readonly Problem[]): Fault {
  return new Fault('config.invalid', { detail: problems.map((p) => `${p.key} ${p.message}`).join('; ') })
}

/** The effective settings as printed text, secrets and user info of URLs hidden, in the order of the table. */
export function printEnv<T extends EnvTable>(
  table: T,
  values: EnvValues<T>,
): { key: string; value: string }[] {
  return Object.entries(table).map(([key, row]) => ({
    key,
    value: row.secret && values[key] !== null ? '•••' : hideUserInfo(show(values[key])),
  }))
}

/** SHA-256 over what `printEnv` shows: equal digests mean equal settings, and it tells nothing of a secret. */
export function envDigest(rows: readonly { key: string; value: string }[]): string {
  const hash = createHash('sha256')
  for (const { key, value } of rows) hash.update(`${key}=${value}\n`)
  return hash.digest('hex')
}

const show = (value: unknown): string => {
  if (value === null || value === undefined) return ''
  if (Array.isArray(value)) return value.map(show).join(',')
  if (typeof value === 'object') {
    return Object.entries(value)
      .map(([name, inner]) => `${name}=${show(inner)}`)
      .join(',')
  }
  return String(value)
}

const hideUserInfo = (text: string): string => text.replace(/(\w:\/\/)[^/@\s]+@/g, '$1•••@')

/** The known key that `key` was most likely meant to be; undefined where none is near. */
export function closest(key: string, known: readonly string[]): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(key.length / 4)) + 1
  for (const candidate of known) {
    const distance = editDistance(key.toUpperCase(), candidate.toUpperCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
