import type { ToolAccessControl } from '../wire/content-security.ts'
import { compileGlob, type Glob, maxGlobChars } from './glob.ts'

export type Control = 'visible' | 'invocable'

interface Answer {
  readonly allow: boolean
  readonly matched: readonly string[]
}

/** Names whose answer is kept: a listing of thousands of tools is asked for again and again. */
const maxKnown = 10_000

interface Entry {
  readonly pattern: string
  readonly fits: Glob
}

/** MCP Tool Access Control of the product's content security, ready to match. */
export interface CompiledToolAccess {
  readonly id: string
  readonly name: string
  readonly prompts: boolean
  readonly resources: boolean
  /** May this tool (its server's own name) be seen or called, and which entries fit it? */
  check(control: Control, tool: string): Answer
}

/**
 * Mode Allow: All lets every tool through, Specific those that an entry fits (none where there is no entry).
 * Mode Block: All stops every tool, Specific those that an entry fits (none where there is no entry).
 */
export function compileToolAccess(control: ToolAccessControl): CompiledToolAccess {
  const entries = (patterns: readonly string[]): Entry[] =>
    patterns.map((pattern) => ({ pattern, fits: compileGlob(pattern) }))
  const lists = {
    visible: {
      scope: control.visibility,
      entries: entries(control.visibilityEntries),
      known: new Map<string, Answer>(),
    },
    invocable: {
      scope: control.invocation,
      entries: entries(control.invocationEntries),
      known: new Map<string, Answer>(),
    },
  }
  return {
    id: control.id,
    name: control.name,
    prompts: control.prompts === 'All',
    resources: control.resources === 'All',
    check: (which, tool) => {
      const { scope, entries: list, known } = lists[which]
      const before = known.get(tool)
      if (before) return before
      const matched = list.filter(({ fits }) => fits(tool)).map(({ pattern }) => pattern)
      const hit = scope === 'All' || matched.length > 0
      const answer = { allow: control.mode === 'Allow' ? hit : !hit, matched: scope === 'All' ? [] : matched }
      // Names come from servers and agents: what is kept of them has a bound.
      if (known.size >= maxKnown) known.clear()
      if (tool.length <= maxGlobChars) known.set(tool, answer)
      return answer
    },
  }
}
