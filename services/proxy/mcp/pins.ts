import { createHash } from 'node:crypto'
import { Fault } from '../../../shared/faults.ts'
import type { ToolPinning } from '../../../shared/wire/event.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { ServerListing } from './catalogue.ts'
import type { Context } from './context.ts'
import { isObject } from './protocol/jsonrpc.ts'
import { metaKeys } from './protocol/shape.ts'
import type { JsonObject } from './protocol/types.ts'

/**
 * Tool definitions are pinned: what a model reads of a tool was approved once, and a server that words it anew, for
 * better or for worse, does not get that past anybody unseen. What is approved is the control plane's to say, so that
 * all gateways agree.
 */
type State = 'approved' | 'new' | 'changed'

/** What a model or a client acts on. */
const pinned = ['name', 'title', 'description', 'inputSchema', 'outputSchema', 'annotations'] as const
/** Definitions told in one event, which has to stay small; the next listing tells of more. */
const maxTold = 100

const digests = new WeakMap<JsonObject, string>()

/** SHA-256, base64url, over the definition with its keys in order. */
export function digestOf(tool: JsonObject): string {
  let digest = digests.get(tool)
  if (digest === undefined) {
    const parts = pinned.map((key) => tool[key] ?? null)
    try {
      digest = createHash('sha256')
        .update(JSON.stringify(ordered(parts)))
        .digest('base64url')
    } catch {
      // Nested beyond reason: never the same as anything that was approved.
      digest = 'unreadable'
    }
    digests.set(tool, digest)
  }
  return digest
}

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered)
  if (!isObject(value)) return value
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([key, inner]) => [key, ordered(inner)]))
}

function stateOf({ toolPinning }: ServerWorkload, tool: JsonObject): State {
  const known = toolPinning && typeof tool.name === 'string' ? toolPinning.approved[tool.name] : undefined
  if (!known || known.length === 0) return 'new'
  return known.includes(digestOf(tool)) ? 'approved' : 'changed'
}

const isHeld = ({ toolPinning }: ServerWorkload, state: State): boolean =>
  (state === 'changed' && toolPinning?.mode === 'hold') ||
  (state === 'new' && toolPinning?.newTools === 'hold')

/** The listing without what is held, changed definitions marked, and what events say of that. */
export function pinnedTools(listing: ServerListing): { listing: ServerListing; pinning?: ToolPinning } {
  const { server, items } = listing
  const { toolPinning } = server
  if (!toolPinning) return { listing }
  const pinning: ToolPinning = { mode: toolPinning.mode, changed: 0, held: 0, definitions: [] }
  const shown = items.flatMap((item) => {
    const state = stateOf(server, item)
    if (state === 'approved') return [item]
    if (state === 'changed') pinning.changed++
    if (pinning.definitions.length < maxTold && typeof item.name === 'string' && item.name.length <= 256) {
      pinning.definitions.push({ name: item.name, digest: digestOf(item) })
    }
    if (isHeld(server, state)) {
      pinning.held++
      return []
    }
    if (state === 'new') return [item]
    return [
      { ...item, _meta: { ...(isObject(item._meta) ? item._meta : {}), [metaKeys.definition]: 'changed' } },
    ]
  })
  if (pinning.definitions.length === 0 && pinning.held === 0) return { listing }
  return { listing: { ...listing, items: shown, pinning }, pinning }
}

/** Refuses a call of a tool whose definition is held. Asks the server for it where it was not listed yet. */
export async function admitDefinition(
  { deps, party, flight, params }: Context,
  { server, name }: { server: ServerWorkload; name: string },
): Promise<void> {
  const { toolPinning } = server
  if (!toolPinning || (toolPinning.mode !== 'hold' && toolPinning.newTools !== 'hold')) return
  const { items, outcome, fault } = await deps.catalogue.list('tools', server, party, flight.stop)
  const tool = items.find((item) => item.name === name)
  // Unread is not approved. (Without an account there is nothing to read, and the call itself answers with the link.)
  if (!tool && (outcome === 'error' || outcome === 'timeout')) {
    throw new Fault('tool.held', {
      detail: `the definitions of ${server.id} could not be read: ${fault?.detail ?? outcome}`,
      data: { name: String(params.name), retry: true },
    })
  }
  // What the server does not list has no definition that anybody read: the server knows whether it exists.
  if (!tool || !isHeld(server, stateOf(server, tool))) return
  throw new Fault('tool.held', {
    detail: `the definition ${digestOf(tool)} of ${server.id}/${name} is not approved`,
    data: { name: String(params.name) },
  })
}
