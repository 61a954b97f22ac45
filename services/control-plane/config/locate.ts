import { type Document, isMap, isNode, isScalar, isSeq, type LineCounter, type Node, type Pair } from 'yaml'

export type Path = readonly PropertyKey[]

export interface Place {
  readonly line: number
  readonly column: number
}

/**
 * Where a value of the document stands, 1-based. What is not there is shown at the nearest thing around it that
 * is. `key` shows the key of the last step instead of its value.
 */
export function locate(document: Document, lines: LineCounter, path: Path, key = false): Place {
  let node: Node | null = document.contents as Node | null
  let offset = startOf(node)
  for (const [depth, step] of path.entries()) {
    const last = depth === path.length - 1
    if (isMap(node)) {
      const pair: Pair | undefined = node.items.find(
        (item) => (isScalar(item.key) ? String(item.key.value) : undefined) === String(step),
      )
      if (!pair) break
      const value: unknown = pair.value
      const next = isNode(value) ? value : null
      offset = last && key ? startOf(pair.key) : (startOf(next) ?? startOf(pair.key))
      node = next
    } else if (isSeq(node)) {
      const item: unknown = node.items[Number(step)]
      if (!isNode(item)) break
      node = item
      offset = startOf(item)
    } else break
  }
  const { line, col } = lines.linePos(offset ?? 0)
  return { line: Math.max(line, 1), column: Math.max(col, 1) }
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined
}

/** `serverWorkloads[2].url`, as people write it. */
export function pathText(path: Path): string {
  return path.reduce<string>(
    (text, step) => (typeof step === 'number' ? `${text}[${step}]` : `${text}${text && '.'}${String(step)}`),
    '',
  )
}
