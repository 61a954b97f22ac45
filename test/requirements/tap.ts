/** What a TAP stream says about the requirements its tests cited. */
export interface Proofs {
  /** Ids cited by a test that passed, with everything that encloses it. */
  readonly proved: ReadonlySet<string>
  /** Ids cited by a test that ran and did not pass. */
  readonly failed: ReadonlySet<string>
}

interface Level {
  readonly ids: string[]
  /** Known from the start where the subtest is buffered: `ok 1 - name {`. */
  readonly passed?: boolean
}

const result = /^(not )?ok\b([^#]*)(#\s*(?:skip|todo)\b)?/i

/**
 * Reads TAP 14 line by line. A comment `# proves: ID ID` belongs to the subtest it stands in, and holds once every test
 * around it has passed; what is skipped or to do proves nothing.
 */
export function readProofs(): { line(text: string): void; end(): Proofs } {
  const proved = new Set<string>()
  const failed = new Set<string>()
  const open: Level[] = []
  let diagnostic: number | undefined

  const close = (depth: number, passed: boolean): void => {
    const inner = open.splice(depth + 1).flatMap(({ ids }) => ids)
    if (!passed) for (const id of inner) failed.add(id)
    else if (depth === 0) for (const id of inner) proved.add(id)
    else level(depth).ids.push(...inner)
  }
  const level = (depth: number): Level => {
    while (open.length <= depth) open.push({ ids: [] })
    return open[depth]!
  }

  return {
    line: (text) => {
      const content = text.trimStart()
      const indent = text.length - content.length
      if (diagnostic !== undefined) {
        if (indent === diagnostic && content.startsWith('...')) diagnostic = undefined
        return
      }
      if (content === '---' && indent % 4 === 2) {
        diagnostic = indent
        return
      }
      if (indent % 4 !== 0) return
      const depth = indent / 4
      if (content.startsWith('# proves: ')) {
        level(depth).ids.push(...content.slice('# proves: '.length).trim().split(/\s+/))
        return
      }
      if (content.startsWith('}')) {
        const passed = open[depth + 1]?.passed
        if (passed !== undefined) close(depth, passed)
        return
      }
      const match = result.exec(content)
      if (!match) return
      const passed = !match[1] && !match[3]
      if (content.endsWith('{')) {
        level(depth)
        open.splice(depth + 1)
        open.push({ ids: [], passed })
      } else close(depth, passed)
    },
    end: () => {
      // Cited at the top of the stream, outside any test, or in a test that never ended.
      for (const { ids } of open) for (const id of ids) failed.add(id)
      return { proved, failed }
    },
  }
}
