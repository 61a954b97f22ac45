import { Environment, type ParseResult } from '@marcbachmann/cel-js'
import { compileGlob } from './glob.ts'

/**
 * Conditions in the Common Expression Language. Parsed and type-checked when they are configured, evaluated without
 * side effects and within bounds: no loop inside a loop, no regular expressions, no list or map of more than
 * `maxEntries` under a loop.
 */
export interface CelValues {
  readonly user: {
    readonly subject: string
    readonly issuer: string
    readonly identityProvider: string
    readonly email: string
    readonly groups: readonly string[]
    readonly claims: Readonly<Record<string, unknown>>
  }
  readonly client: { readonly id: string; readonly workload: string; readonly ip: string }
  readonly server?: { readonly id: string; readonly name: string; readonly host: string } | undefined
  readonly tool?: { readonly name: string; readonly annotations: Annotations } | undefined
  readonly args?: Readonly<Record<string, unknown>> | undefined
}

export interface Annotations {
  readonly title: string
  readonly readOnlyHint: boolean
  readonly destructiveHint: boolean
  readonly idempotentHint: boolean
  readonly openWorldHint: boolean
}

export type CelVariable = 'user' | 'client' | 'server' | 'tool' | 'args'

export interface CompiledCel {
  /** The variables that the expression reads. */
  readonly reads: ReadonlySet<CelVariable>
  /** The claims of the user that it reads. */
  readonly claims: ReadonlySet<string>
  /** Throws where the expression has no value: a missing key, a wrong type, a bound. */
  evaluate(values: CelValues): boolean
}

const maxChars = 4_096
const maxLoops = 4
/** Entries of a list or map in claims or arguments, where an expression loops. */
const maxEntries = 1_000
/** How deep claims and arguments are looked through for such lists. */
const maxDepth = 64

const variables: readonly string[] = ['user', 'client', 'server', 'tool', 'args'] satisfies CelVariable[]
const loops = new Set(['all', 'exists', 'exists_one', 'map', 'filter'])

const annotationTypes = {
  title: 'string',
  readOnlyHint: 'bool',
  destructiveHint: 'bool',
  idempotentHint: 'bool',
  openWorldHint: 'bool',
}

const environment = new Environment({
  unlistedVariablesAreDyn: false,
  homogeneousAggregateLiterals: false,
  limits: { maxAstNodes: 500, maxDepth: 32, maxListElements: 200, maxMapEntries: 50, maxCallArguments: 8 },
})
  .registerVariable({
    name: 'user',
    schema: {
      subject: 'string',
      issuer: 'string',
      identityProvider: 'string',
      email: 'string',
      groups: 'list<string>',
      claims: 'map<string, dyn>',
    },
  })
  .registerVariable({ name: 'client', schema: { id: 'string', workload: 'string', ip: 'string' } })
  .registerVariable({ name: 'server', schema: { id: 'string', name: 'string', host: 'string' } })
  .registerVariable({ name: 'tool', schema: { name: 'string', annotations: annotationTypes } })
  .registerVariable('args', 'map<string, dyn>')
  .registerFunction('string.glob(string): bool', (text: string, pattern: string) =>
    compileGlob(pattern)(text),
  )

/** Throws RangeError: what is wrong and where, in words for the author. */
export function compileCel(expression: string): CompiledCel {
  if (expression.length > maxChars) throw new RangeError(`is longer than ${maxChars} characters, shorten it`)
  let parsed: ParseResult
  try {
    parsed = environment.parse(expression)
  } catch (error) {
    throw new RangeError(`does not parse: ${firstLines(error)}`)
  }
  const found = inspect(parsed.ast)
  if (found.problem !== undefined) throw new RangeError(found.problem)
  const checked = parsed.check()
  if (!checked.valid) throw new RangeError(`does not type-check: ${firstLines(checked.error)}`)
  const type = String(checked.type)
  if (type !== 'bool' && type !== 'dyn')
    throw new RangeError(`has a value of type ${type}, write a condition (bool)`)
  const reads = new Set([...found.names].filter((name) => variables.includes(name))) as Set<CelVariable>
  return {
    reads,
    claims: found.claims,
    evaluate(values) {
      if (found.loops > 0) {
        if (reads.has('args')) bounded(values.args, 0)
        if (reads.has('user')) bounded(values.user.claims, 0)
      }
      const value: unknown = parsed(values as unknown as Record<string, unknown>)
      if (typeof value !== 'boolean') throw new TypeError('the value is not bool')
      return value
    },
  }
}

/** The first line and the place; the library draws an arrow under it, which does not survive in one line. */
function firstLines(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  const [what = '', ...rest] = message.split('\n')
  const arrow = rest.find((line) => /^\s*\^/.test(line))
  const source = rest.find((line) => /^>\s+\d+ \|/.test(line))
  if (!arrow || !source) return what
  const line = Number(/^>\s+(\d+)/.exec(source)?.[1])
  return `${what} (line ${line}, character ${arrow.indexOf('^') - source.indexOf('|') - 1})`
}

interface Found {
  readonly names: ReadonlySet<string>
  readonly claims: ReadonlySet<string>
  readonly loops: number
  readonly problem?: string
}

function inspect(root: unknown): Found {
  const names = new Set<string>()
  const claims = new Set<string>()
  let count = 0
  let problem: string | undefined
  const visit = (node: unknown, inLoop: boolean): void => {
    if (Array.isArray(node)) {
      for (const each of node) visit(each, inLoop)
      return
    }
    if (typeof node !== 'object' || node === null || !('op' in node)) return
    const { op, args } = node as { op: unknown; args: unknown }
    if (op === 'id') {
      names.add(String(args))
      return
    }
    if (isUserClaims(node))
      problem ??= 'reads user.claims as a whole; name one claim, as in user.claims.department'
    const member =
      (op === '.' || op === '[]') && Array.isArray(args) && isUserClaims(args[0]) ? args[1] : undefined
    const claim = isConstant(member) ? member.args : member
    if (typeof claim === 'string') {
      names.add('user')
      claims.add(claim)
      return
    }
    if (op !== 'call' && op !== 'rcall') {
      visit(args, inLoop)
      return
    }
    const [name, ...operands] = args as [unknown, ...unknown[]]
    if (name === 'matches')
      problem ??= 'uses matches(), which has no bound on its time; use startsWith, endsWith, contains or glob'
    const looping = op === 'rcall' && loops.has(String(name))
    if (looping) {
      count++
      if (inLoop)
        problem ??= `has ${String(name)}() inside another loop, which has no small bound on its time`
      const [variable] = (operands[1] ?? []) as { op?: unknown; args?: unknown }[]
      if (variable?.op === 'id' && variables.includes(String(variable.args)))
        problem ??= `calls a loop variable "${String(variable.args)}" as the ${String(variable.args)} of the request; choose another name`
      // The list that is looped over is evaluated once, so loops may follow one another.
      visit(operands[0], inLoop)
      visit(operands.slice(1), true)
    } else visit(operands, inLoop)
  }
  visit(root, false)
  if (count > maxLoops) problem ??= `has ${count} loops, use at most ${maxLoops}`
  return { names, claims, loops: count, ...(problem === undefined ? {} : { problem }) }
}

interface Node {
  readonly op: unknown
  readonly args: unknown
}

const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null && 'op' in value
const isConstant = (value: unknown): value is Node => isNode(value) && value.op === 'value'

/** `user.claims` itself. */
function isUserClaims(value: unknown): boolean {
  if (!isNode(value) || value.op !== '.' || !Array.isArray(value.args)) return false
  const [of, name] = value.args
  return name === 'claims' && isNode(of) && of.op === 'id' && of.args === 'user'
}

function bounded(value: unknown, depth: number): void {
  if (typeof value !== 'object' || value === null) return
  const entries = Array.isArray(value) ? value : Object.values(value)
  if (depth > maxDepth || entries.length > maxEntries)
    throw new RangeError(`a list or map has more than ${maxEntries} entries`)
  for (const entry of entries) bounded(entry, depth + 1)
}
