import { createHash } from 'node:crypto'
import { Fault } from '../../../shared/faults.ts'
import { type Catalogue, kinds, type ListKind, type ServerListing } from './catalogue.ts'
import { connectToolDefinition } from './connect.ts'
import { exposeName } from './names.ts'
import { metaKeys } from './protocol/shape.ts'
import type { JsonObject } from './protocol/types.ts'
import type { UpstreamRequest } from './upstream/request.ts'

/** Most items in one page: clients that ignore `nextCursor` should not lose anything in ordinary installations. */
const pageSize = 2_000

/** Prefixed where the kind has names; what would get an illegal name is left out. */
export function exposeItems(kind: ListKind, listing: ServerListing): JsonObject[] {
  const { server, items, outcome } = listing
  const list =
    kind === 'tools' && outcome === 'authorization_required' && items.length === 0
      ? [connectToolDefinition(server)]
      : items
  if (kind === 'resources' || kind === 'resourceTemplates') return list
  return list.flatMap((item) => {
    const name = typeof item.name === 'string' ? exposeName(server, item.name) : undefined
    return name === undefined ? [] : [{ ...item, name }]
  })
}

/** One merged result: servers in configuration order, items in each server's own order. */
export function mergeListings(
  kind: ListKind,
  listings: ServerListing[],
  cursor: unknown,
  principalKey: string,
): JsonObject {
  const all = listings.flatMap((listing) => exposeItems(kind, listing))
  const offset = cursor === undefined ? 0 : openCursor(cursor, kind, principalKey)
  if (offset > all.length) throw new Fault('cursor.invalid')
  const next = offset + pageSize
  const failed = listings.filter(({ outcome }) => outcome !== 'ok')
  return {
    [kind]: all.slice(offset, next),
    ...(next < all.length ? { nextCursor: sealCursor(next, kind, principalKey) } : {}),
    _meta: {
      [metaKeys.servers]: listings.map(({ server, outcome, stale }) => ({
        server: server.id,
        outcome,
        ...(stale ? { stale: true } : {}),
      })),
    },
    ...(failed.length > 0 ? { ttlMs: 0 } : {}),
  }
}

/**
 * A cursor says where in the person's own list to go on. The list is decided anew at each page, so a forged
 * cursor shows nothing that its holder may not see; the tag tells a cursor of ours from anything else.
 */
const tag = (offset: number, kind: string, principalKey: string): string =>
  createHash('sha256').update(`${offset}\n${kind}\n${principalKey}`).digest('base64url').slice(0, 16)

const sealCursor = (offset: number, kind: ListKind, principalKey: string): string =>
  `${offset}.${tag(offset, kind, principalKey)}`

function openCursor(cursor: unknown, kind: ListKind, principalKey: string): number {
  const [digits = '', given] = typeof cursor === 'string' ? cursor.split('.') : []
  const offset = Number(digits)
  if (!/^\d{1,7}$/.test(digits) || given !== tag(offset, kind, principalKey))
    throw new Fault('cursor.invalid')
  return offset
}

/** Every server at once, each in its own time: one that hangs or fails costs the others nothing. */
export async function fanOut(
  catalogue: Catalogue,
  kind: ListKind,
  requests: Omit<UpstreamRequest, 'method' | 'params'>[],
  limitMs: number,
): Promise<(ServerListing & { durationMs: number })[]> {
  return Promise.all(
    requests.map(async (request) => {
      const startedAt = performance.now()
      const controller = new AbortController()
      const onAbort = (): void => controller.abort(request.signal.reason)
      request.signal.addEventListener('abort', onAbort, { once: true })
      const timer = setTimeout(
        () => controller.abort(new Fault('upstream.timeout', { detail: kinds[kind].method })),
        limitMs,
      )
      try {
        const listing = await catalogue.list(kind, { ...request, signal: controller.signal })
        return { ...listing, durationMs: performance.now() - startedAt }
      } finally {
        clearTimeout(timer)
        request.signal.removeEventListener('abort', onAbort)
      }
    }),
  )
}
