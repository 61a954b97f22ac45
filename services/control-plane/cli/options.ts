import { parseArgs } from 'node:util'

/** One option of a command. */
export interface OptionSpec {
  readonly type: 'string' | 'boolean'
  readonly required?: boolean
  /** May be given several times. */
  readonly multiple?: boolean
  /** Throws an Error whose message says what was expected. */
  readonly parse?: (text: string) => unknown
}

export type OptionTable = Readonly<Record<string, OptionSpec>>

/** What was given: strings, lists of strings where `multiple`, parsed values where `parse`. */
export type Given = Readonly<Record<string, unknown>>

/** Every problem of a command line at once. */
export class UsageFault extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.name = 'UsageFault'
    this.problems = problems
  }
}

/** Reads a command's arguments; throws UsageFault with all that is wrong. `names` are its positional arguments. */
export function readOptions(
  args: readonly string[],
  table: OptionTable,
  names: readonly string[] = [],
): { values: Given; positionals: readonly string[] } {
  const problems: string[] = []
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries(Object.entries(table).map(([name, { type }]) => [name, { type }])),
  })
  const values: Record<string, unknown> = {}
  const positionals: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    const { name, rawName, value } = token
    const spec = Object.hasOwn(table, name) && rawName.startsWith('--') ? table[name] : undefined
    if (!spec) problems.push(`${rawName} is no option of this command`)
    else if (spec.type === 'boolean' && value !== undefined) problems.push(`${rawName} takes no value`)
    else if (spec.type === 'string' && !value) problems.push(`${rawName} needs a value`)
    else if (values[name] !== undefined && !spec.multiple) problems.push(`${rawName} is given twice`)
    else {
      try {
        const one = spec.type === 'boolean' ? true : (spec.parse?.(value ?? '') ?? value)
        values[name] = spec.multiple ? [...((values[name] as unknown[]) ?? []), one] : one
      } catch (error) {
        problems.push(`${rawName}: ${(error as Error).message}`)
      }
    }
  }
  for (const [name, { required }] of Object.entries(table)) {
    const tried = tokens.some((token) => token.kind === 'option' && token.name === name)
    if (required && !tried) problems.push(`--${name} is missing`)
  }
  for (const name of names.slice(positionals.length)) problems.push(`${name} is missing`)
  for (const more of positionals.slice(names.length)) problems.push(`"${more}" is not expected here`)
  if (problems.length > 0) throw new UsageFault(problems)
  return { values, positionals }
}

/** JSON as an argument. */
export function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Error(`is no JSON, write for example '{"project": "HR"}'`)
  }
}

/** JSON object as an argument. */
export function jsonObject(text: string): unknown {
  const value = json(text)
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  throw new Error(`is no JSON object, write for example '{"groups": ["engineering"]}'`)
}
