import type { AccessCondition, ServerWorkload } from '../wire/snapshot.ts'
import { type Annotations, type CelValues, type CelVariable, compileCel } from './cel.ts'
import { compileGeo } from './geo.ts'
import { claimValues } from './match.ts'
import { compileTime } from './time.ts'
import type { Circumstances, Principal, ReasonCode, ToolFacts } from './types.ts'

/** All that a condition may look at. */
export interface Asked {
  readonly principal: Principal
  readonly circumstances: Circumstances
  readonly server?: ServerWorkload | undefined
  readonly tool?: ToolFacts | undefined
  /** Absent where a tool is listed: conditions on arguments are for calls. */
  readonly args?: unknown
}

export interface Refusal {
  readonly reason: ReasonCode
  readonly text: string
}

export interface CompiledCondition {
  readonly id: string
  readonly name: string
  /** Its answer may change from one request to the next. */
  readonly volatile: boolean
  readonly reads: ReadonlySet<CelVariable>
  /** Undefined where it holds. Never throws: a condition that can not be evaluated does not hold. */
  check(asked: Asked): Refusal | undefined
}

const nothing: ReadonlySet<CelVariable> = new Set()

export function compileCondition(condition: AccessCondition): CompiledCondition {
  const { id, name } = condition
  switch (condition.type) {
    case 'AembitTimeCondition': {
      const inside = compileTime(condition)
      const refusal: Refusal = { reason: 'time_mismatch', text: 'it is outside of the schedule.' }
      return {
        id,
        name,
        volatile: true,
        reads: nothing,
        check: ({ circumstances }) => (inside(circumstances.now) ? undefined : refusal),
      }
    }
    case 'AembitGeoIPCondition': {
      const check = compileGeo(condition)
      return {
        id,
        name,
        volatile: true,
        reads: nothing,
        check: ({ principal, circumstances }) => check(principal, circumstances),
      }
    }
    case 'CelCondition': {
      const { reads, evaluate } = compileCel(condition.expression)
      const mismatch: Refusal = { reason: 'cel_mismatch', text: 'the expression is false.' }
      return {
        id,
        name,
        volatile: reads.has('client'),
        reads,
        check: (asked) => {
          try {
            return evaluate(celValues(asked)) ? undefined : mismatch
          } catch (error) {
            return { reason: 'cel_error', text: `the expression has no value: ${celProblem(error)}.` }
          }
        },
      }
    }
  }
}

/** The library's first line, shortened: it names keys and types, not values. */
function celProblem(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  return (message.split('\n')[0] ?? '').slice(0, 120)
}

const users = new WeakMap<Principal, CelValues['user']>()
const hosts = new WeakMap<ServerWorkload, NonNullable<CelValues['server']>>()

function celValues({ principal, circumstances, server, tool, args }: Asked): CelValues {
  let user = users.get(principal)
  if (!user) {
    const { subject, issuer, identityProvider = '', claims } = principal
    const email = claimValues(claims, 'email')[0] ?? ''
    user = { subject, issuer, identityProvider, email, groups: claimValues(claims, 'groups'), claims }
    users.set(principal, user)
  }
  return {
    user,
    client: {
      id: principal.clientId,
      workload: principal.clientWorkload ?? '',
      ip: circumstances.clientIp ?? '',
    },
    server: server && hostOf(server),
    tool: tool && { name: tool.name, annotations: annotationsOf(tool.annotations) },
    args: isMap(args) ? args : {},
  }
}

function hostOf(server: ServerWorkload): NonNullable<CelValues['server']> {
  let known = hosts.get(server)
  if (!known) {
    known = { id: server.id, name: server.name, host: new URL(server.url).hostname }
    hosts.set(server, known)
  }
  return known
}

/** Annotations with what MCP (2025-06-18 and later, ToolAnnotations) says of those that a server leaves out. */
export function annotationsOf(given: unknown): Annotations {
  const from = isMap(given) ? given : {}
  const flag = (name: string, otherwise: boolean): boolean =>
    typeof from[name] === 'boolean' ? from[name] : otherwise
  return {
    title: typeof from.title === 'string' ? from.title : '',
    readOnlyHint: flag('readOnlyHint', false),
    destructiveHint: flag('destructiveHint', true),
    idempotentHint: flag('idempotentHint', false),
    openWorldHint: flag('openWorldHint', true),
  }
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
