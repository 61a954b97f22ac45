import { posix } from 'node:path'
import type { SourceFile } from './tree.ts'

/**
 * The import order of ARCHITECTURE.md. A part is `shared`, one service, `installer` or `test`; a room is a folder
 * of a part that has files of its own.
 */
const partOf = (path: string): string => {
  const [top = '', second = ''] = path.split('/')
  return top === 'services' ? `services/${second}` : top
}

/** The layers of shared, lowest first: a file imports from its own layer and those below. */
const sharedLayers: readonly (readonly RegExp[])[] = [
  [/^shared\/(faults|clock|retry|files|networks)\.ts$/],
  [/^shared\/log\.ts$/, /^shared\/wire\//, /^shared\/proxy-protocol\.ts$/],
]
const layerOf = (path: string): number => {
  const index = sharedLayers.findIndex((layer) => layer.some((pattern) => pattern.test(path)))
  return index === -1 ? sharedLayers.length : index
}

interface Import {
  readonly from: string
  readonly to: string
  readonly line: number
}

const specifier = /(?:\bfrom\s*|\bimport\s*\(\s*|^\s*import\s+)(['"])(\.{1,2}\/[^'"]+)\1/

function relativeImports(file: SourceFile): Import[] {
  return file.lines.flatMap((text, index) => {
    const match = specifier.exec(text)
    if (!match?.[2]) return []
    const to = posix.normalize(posix.join(posix.dirname(file.path), match[2]))
    return [{ from: file.path, to, line: index + 1 }]
  })
}

function forbidden({ from, to }: Import): string | undefined {
  const source = partOf(from)
  const target = partOf(to)
  if (source === target) {
    if (source === 'shared' && layerOf(to) > layerOf(from)) return `${to} stands above this file in shared`
    return undefined
  }
  if (source === 'shared') return 'shared imports nothing of ours outside shared'
  if (source.startsWith('services/')) {
    return target === 'shared' ? undefined : `${source} imports shared and itself, not ${target}`
  }
  if (source === 'installer')
    return target === 'shared' ? undefined : `installer imports shared, not ${target}`
  if (source === 'test') return undefined
  return `${source} imports nothing of ours`
}

/** Cycles between the rooms of one part, each reported once, at the import that closes it. */
function roomCycles(imports: readonly Import[]): string[] {
  const room = (path: string): string => posix.dirname(path)
  const edges = new Map<string, Map<string, Import>>()
  for (const item of imports) {
    const [from, to] = [room(item.from), room(item.to)]
    // A room and the rooms inside it are one: what encloses may stand on both sides of what it holds.
    if (from === to || `${from}/`.startsWith(`${to}/`) || `${to}/`.startsWith(`${from}/`)) continue
    const targets = edges.get(from) ?? new Map<string, Import>()
    if (!targets.has(to)) targets.set(to, item)
    edges.set(from, targets)
  }
  const found: string[] = []
  const done = new Set<string>()
  const visit = (at: string, trail: readonly string[]): void => {
    for (const [to, item] of edges.get(at) ?? []) {
      const start = trail.indexOf(to)
      if (start !== -1) {
        found.push(
          `${item.from}:${item.line}: closes a cycle of rooms: ${[...trail.slice(start), to].join(' -> ')}`,
        )
      } else if (!done.has(to)) visit(to, [...trail, to])
    }
    done.add(at)
  }
  for (const at of [...edges.keys()].sort()) if (!done.has(at)) visit(at, [at])
  return found
}

export function borderViolations(tree: readonly SourceFile[]): string[] {
  const sources = tree.filter(({ path }) => /^(shared|services|installer|test)\/.*\.ts$/.test(path))
  const imports = sources.flatMap(relativeImports)
  const crossed = imports.flatMap((item) => {
    const reason = forbidden(item)
    return reason ? [`${item.from}:${item.line}: ${reason}`] : []
  })
  return [...crossed, ...roomCycles(imports.filter(({ from }) => !from.startsWith('test/')))]
}
