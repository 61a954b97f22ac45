import { closest } from './env.ts'
import { duration } from './parsers.ts'

/**
 * Time-outs of AEMBIT_MCP_GATEWAY_TIMEOUT by name, milliseconds: how long the gateway waits for an MCP server. The
 * first eight are documented names with documented defaults; the others are ours.
 */
export const timeoutDefaults = {
  initialize: 10_000,
  notifications_initialized: 1_000,
  tools_list: 3_000,
  proactive_tools_list: 5_000,
  resources_list: 3_000,
  reinit_initialize: 10_000,
  reinit_notifications_initialized: 1_000,
  reinit_tools_list: 5_000,
  tools_call: 60_000,
  resources_read: 30_000,
  resources_templates_list: 3_000,
  prompts_list: 3_000,
  prompts_get: 30_000,
  completion: 10_000,
} as const

export type TimeoutName = keyof typeof timeoutDefaults
export type Timeouts = Record<TimeoutName, number>

/** No wait for a server is longer, so that a slip of a unit can not hold connections for days. */
export const maxTimeoutMs = 3_600_000

/** The method names that documentation writes beside the names, e.g. tools/list, reinit/tools/list. */
const aliases: Readonly<Record<string, TimeoutName>> = Object.fromEntries(
  Object.keys(timeoutDefaults).flatMap((name) => {
    const method = name
      .replace(/^reinit_/, 'reinit/')
      .replace(/(notifications|templates|resources|prompts|tools)_/g, '$1/')
    return method === name || name.startsWith('proactive') ? [] : [[method, name as TimeoutName]]
  }),
)

/** `name=dur,name=dur` over the defaults. Throws one Error that names every bad entry. */
export function parseTimeouts(raw: string): Timeouts {
  const timeouts: Timeouts = { ...timeoutDefaults }
  const seen = new Set<string>()
  const problems: string[] = []
  for (const entry of raw.split(',')) {
    const match = /^\s*([a-z_/]+)\s*=\s*(\S+)\s*$/.exec(entry)
    if (!match) {
      problems.push(`"${entry.trim()}" is not name=duration`)
      continue
    }
    const [, given = '', text = ''] = match
    const name = aliases[given] ?? given
    if (!isTimeoutName(name)) {
      const near = closest(name, Object.keys(timeoutDefaults))
      problems.push(`"${given}" is not a time-out${near ? `; did you mean ${near}?` : ''}`)
      continue
    }
    if (seen.has(name)) problems.push(`${name} is given twice`)
    seen.add(name)
    try {
      const value = duration(text)
      if (value > maxTimeoutMs) problems.push(`${name} is longer than 1h`)
      else timeouts[name] = value
    } catch (error) {
      problems.push(`${name} ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  if (problems.length > 0) throw new Error(problems.join('; '))
  return timeouts
}

const isTimeoutName = (name: string): name is TimeoutName => Object.hasOwn(timeoutDefaults, name)
