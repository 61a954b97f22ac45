import { Fault } from '../../../shared/faults.ts'
import { kinds, type ListKind, type ServerListing } from './catalogue.ts'
import { connectToolDefinition } from './connect.ts'
import { exposeName } from './names.ts'
import { legacyTool, metaKeys } from './protocol/shape.ts'
import type { Era, JsonObject, Seals } from './protocol/types.ts'

/** Most items in one page: clients that ignore `nextCursor` should not lose anything in ordinary installations. */
const pageSize = 2_000
const cursorPurpose = 'mcp-cursor/1'

/** Prefixed where the kind has names. What would get an illegal name is left out and given to `dropped`. */
export function exposeItems(
  kind: ListKind,
  { server, items, outcome }: ServerListing,
  client: Era,
  dropped: (name: unknown) => void,
): readonly JsonObject[] {
  if (kind === 'resources' || kind === 'resourceTemplates') return items
  const unconnected = kind === 'tools' && outcome === 'authorization_required' && items.length === 0
  const list = unconnected ? [connectToolDefinition(server)] : items
  return list.flatMap((item) => {
    if (kind === 'tools' && needsTasks(item)) return []
    const name = typeof item.name === 'string' ? exposeName(server, item.name) : undefined
    if (name === undefined) {
      dropped(item.name)
      return []
    }
    return [{ ...(client === 'legacy' && kind === 'tools' ? legacyTool(item) : item), name }]
  })
}

/** Tasks are not relayed, so a tool that can only run as one can not be called. */
const needsTasks = ({ execution }: JsonObject): boolean =>
  (execution as JsonObject | null | undefined)?.taskSupport === 'required'

/** One merged result: servers in configuration order, items in each server's own order. */
export function mergeListings(
  kind: ListKind,
  listings: readonly ServerListing[],
  items: readonly JsonObject[],
  page: { cursor: unknown; principalKey: string; seals: Seals },
): JsonObject {
  const offset = page.cursor === undefined ? 0 : openCursor(page.cursor, kind, page)
  const next = offset + pageSize
  const nextCursor = next < items.length ? sealCursor(next, kind, page) : undefined
  return {
    [kind]: offset === 0 && nextCursor === undefined ? items : items.slice(offset, next),
    ...(nextCursor === undefined ? {} : { nextCursor }),
    ttlMs: listings.reduce(
      (least, { outcome, ttlMs }) => Math.min(least, outcome === 'ok' ? ttlMs : 0),
      longestTtlMs,
    ),
    _meta: {
      [metaKeys.servers]: listings.map(({ server, outcome, stale, pinning }) => ({
        server: server.id,
        outcome,
        ...(stale ? { stale: true } : {}),
        ...(pinning?.changed ? { changedTools: pinning.changed } : {}),
        ...(pinning?.held ? { heldTools: pinning.held } : {}),
      })),
    },
  }
}

/** A policy may change at any time; a client should not go on with a list for longer than this. */
const longestTtlMs = 60_000

/** A cursor says where in the person's own list to go on; the list itself is decided anew at each page. */
function sealCursor(
  offset: number,
  kind: ListKind,
  page: { principalKey: string; seals: Seals },
): string | undefined {
  return page.seals.seal(cursorPurpose, JSON.stringify([kinds[kind].method, page.principalKey, offset]))
}

function openCursor(cursor: unknown, kind: ListKind, page: { principalKey: string; seals: Seals }): number {
  const plain = typeof cursor === 'string' ? page.seals.open(cursorPurpose, cursor) : undefined
  if (plain === undefined) throw new Fault('cursor.invalid')
  const [method, principalKey, offset] = JSON.parse(plain)
  if (method !== kinds[kind].method || principalKey !== page.principalKey) throw new Fault('cursor.invalid')
  return offset
}
