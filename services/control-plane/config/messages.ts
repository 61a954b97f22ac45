import type { z } from 'zod'
import { closest } from '../../../shared/config/env.ts'
import type { Path } from './locate.ts'

export interface ProblemAt {
  readonly path: Path
  /** Show the key rather than the value. */
  readonly key?: boolean
  /** "what, what to do". */
  readonly message: string
}

type Issue = z.core.$ZodIssue
type AnySchema = z.core.$ZodType

/** One issue of the schema as sentences for the person who wrote the file; an issue may hold several problems. */
export function describeIssue(issue: Issue, schema: AnySchema, input: unknown): ProblemAt[] {
  const { path } = issue
  const given = valueAt(input, path)
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = keysAt(schema, path, input)
      return issue.keys.map((key) => {
        const near = closest(key, known)
        const help = near
          ? `did you mean ${near}?`
          : known.length > 0
            ? `known here: ${known.join(', ')}`
            : 'remove it'
        return { path: [...path, key], key: true, message: `is not a known key, ${help}` }
      })
    }
    case 'invalid_type':
      return [
        given === undefined
          ? { path, message: `is missing, add ${article(issue.expected)}` }
          : !issue.message.startsWith('Invalid')
            ? { path, message: issue.message }
            : {
                path,
                message: `is ${typeName(given)}, write ${article(issue.expected)}${issue.expected === 'string' ? ' (in quotes where it looks like something else)' : ''}`,
              },
      ]
    case 'invalid_value':
      return [
        {
          path,
          message: issue.message.startsWith('Invalid')
            ? `${quoted(given)} is not one of ${issue.values.join(', ')}, choose one of them`
            : issue.message,
        },
      ]
    case 'invalid_union': {
      if (issue.errors.length === 0) {
        const options =
          'options' in issue && Array.isArray(issue.options) ? issue.options.join(', ') : 'the known ones'
        const what = given === undefined ? 'is missing' : `${quoted(given)} is not known`
        return [{ path, message: `${what}, choose one of ${options}` }]
      }
      const branch = issue.errors.find((errors) =>
        errors.every((error) => error.code !== 'invalid_type' || error.path.length > 0),
      )
      return (branch ?? issue.errors[0] ?? []).flatMap((inner) =>
        describeIssue({ ...inner, path: [...path, ...inner.path] } as Issue, schema, input),
      )
    }
    case 'too_small':
      return [
        {
          path,
          message: issue.message.startsWith('Too small')
            ? `is too small, write at least ${issue.minimum}`
            : issue.message,
        },
      ]
    case 'too_big':
      return [
        {
          path,
          message: issue.message.startsWith('Too big')
            ? `is too big, write at most ${issue.maximum}`
            : issue.message,
        },
      ]
    case 'invalid_format':
      return [
        {
          path,
          message: issue.message.startsWith('Invalid')
            ? 'is not of the expected form, see the example configuration'
            : issue.message,
        },
      ]
    default:
      return [{ path, message: issue.message }]
  }
}

function valueAt(input: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, step) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[step] : undefined,
    input,
  )
}

/** The keys an object may have at `path` of the schema; of a union, those of the member that `input` names by type. */
function keysAt(schema: AnySchema, path: Path, input: unknown): string[] {
  const def = (schema as { _zod: { def: Definition } })._zod.def
  if (def.innerType) return keysAt(def.innerType, path, input)
  if (def.type === 'pipe' && def.in) return keysAt(def.in, path, input)
  if (def.options) {
    const type = (input as { type?: unknown } | undefined)?.type
    const options = def.options.filter(
      (option) => literalType(option) === undefined || literalType(option) === type,
    )
    return options.flatMap((option) => keysAt(option, path, input))
  }
  const [step, ...rest] = path
  if (def.shape) {
    if (step === undefined) return Object.keys(def.shape)
    const next = def.shape[String(step)]
    return next ? keysAt(next, rest, valueAt(input, [step])) : []
  }
  if (def.element && step !== undefined) return keysAt(def.element, rest, valueAt(input, [step]))
  return []
}

interface Definition {
  type: string
  innerType?: AnySchema
  in?: AnySchema
  element?: AnySchema
  options?: AnySchema[]
  shape?: Record<string, AnySchema>
  values?: unknown[]
}

function literalType(schema: AnySchema): unknown {
  const def = (schema as { _zod: { def: Definition } })._zod.def
  const type = def.shape?.type
  return type ? (type as { _zod: { def: Definition } })._zod.def.values?.[0] : undefined
}

function typeName(value: unknown): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'string') return 'a text'
  return typeof value === 'object' ? 'a map' : `a ${typeof value}`
}

const articles: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map of keys',
}

function article(expected: string): string {
  return articles[expected] ?? expected
}

/** Shortened, and only where it is a plain value: messages go to logs. */
function quoted(value: unknown): string {
  return typeof value === 'string' ? `"${value.slice(0, 40)}"` : typeName(value)
}
