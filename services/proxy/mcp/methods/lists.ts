import type { GuardPhase } from '../../../../shared/wire/content-security.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Guarded } from '../../guard/guards.ts'
import type { Access } from '../access.ts'
import { kinds, type ListKind, type ServerListing } from '../catalogue.ts'
import type { Context } from '../context.ts'
import { explanationOf, guard, guardsOf, verdicts } from '../guarded.ts'
import { exposeItems, mergeListings } from '../listing.ts'
import { pinnedTools } from '../pins.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { shapeResult } from '../protocol/shape.ts'
import type { ContentSecurityVerdict, JsonObject } from '../protocol/types.ts'
import type { Relayed } from '../relay.ts'
import { visibleTools } from '../tool-policy.ts'

/** Every allowed server at once, each in its own time: one that hangs or fails costs the others nothing. */
export function list(kind: ListKind): (context: Context) => Promise<Relayed> {
  return async (context) => {
    const { call, access, party, flight, params, deps, info } = context
    const startedAt = performance.now()
    deps.recorder.request(call, { server: null, decision: null, outcome: 'Passthrough' })
    const listings = await Promise.all(
      serversOf(kind, access).map(async (server) => {
        const listing = await deps.catalogue.list(kind, server, party, flight.stop)
        const { pinning, listing: pinned } = kind === 'tools' ? pinnedTools(listing) : { listing }
        const seen = await checkedListing(context, kind, pinned)
        const verdict = pinning ? { ...seen.verdict, aembitToolPinning: pinning } : seen.verdict
        if (listing.fetched) record(context, seen.listing, verdict, seen.refused)
        return seen.listing
      }),
    )
    measure(context, kinds[kind].method, listings, performance.now() - startedAt)
    const items = listings.flatMap((listing) =>
      exposeItems(kind, listing, call.era, (name) =>
        deps.log.warn(
          { server: listing.server.id, kind, name: String(name).slice(0, 200) },
          'name can not be exposed',
        ),
      ),
    )
    const page = { cursor: params.cursor, principalKey: party.principalKey, seals: deps.seals }
    const merged = mergeListings(kind, listings, items, page)
    deps.recorder.response(call, {
      server: null,
      decision: null,
      outcome: 'Passthrough',
      httpResponseCode: 200,
      durationMs: performance.now() - startedAt,
    })
    return { result: shapeResult(kinds[kind].method, merged, call.era, info) }
  }
}

function measure({ deps }: Context, method: string, listings: readonly ServerListing[], ms: number): void {
  const asked = listings.filter(({ fetched }) => fetched)
  if (asked.length === 0) return
  const timeouts = asked.filter(({ outcome }) => outcome === 'timeout').length
  const errors = asked.filter(({ outcome }) => outcome === 'error').length
  deps.measures.fannedOut(method, ms, asked.length, errors + timeouts, timeouts)
}

interface Seen {
  listing: ServerListing
  verdict?: ContentSecurityVerdict | undefined
  refused?: Guarded
}

const phases: Readonly<Record<ListKind, GuardPhase>> = {
  tools: 'listing',
  prompts: 'prompt_listing',
  resources: 'resource_listing',
  resourceTemplates: 'resource_listing',
}

/** What policy shows of a listing, and what guards leave of that. A listing that one stops is empty. */
async function checkedListing(context: Context, kind: ListKind, listing: ServerListing): Promise<Seen> {
  const seen: Seen = kind === 'tools' ? visibleTools(context, listing) : { listing }
  const { server, items } = seen.listing
  const decision = context.access.decisions.get(server.id)
  const guards = decision ? guardsOf(context, decision) : []
  if (guards.length === 0 || items.length === 0) return seen
  const guarded = await guard(context, guards, { phase: phases[kind], server, content: items })
  const verdict = verdicts(seen.verdict, guarded.verdict).contentSecurity
  const content = guarded.allow ? (guarded.content as readonly JsonObject[]) : []
  const checked = { ...seen.listing, items: content.filter(isObject) }
  return guarded.allow ? { listing: checked, verdict } : { listing: checked, verdict, refused: guarded }
}

function serversOf(kind: ListKind, access: Access): readonly ServerWorkload[] {
  if (kind === 'tools') return access.allowed
  return kind === 'prompts' ? access.prompts : access.resources
}

function record(
  { call, access, deps }: Context,
  { server, outcome, fault, durationMs }: ServerListing,
  verdict: ContentSecurityVerdict | undefined,
  refused: Guarded | undefined,
): void {
  const decision = access.decisions.get(server.id) ?? null
  deps.recorder.request(call, { server, decision, outcome: 'Modified' })
  const failed = outcome !== 'ok'
  deps.recorder.response(call, {
    server,
    decision,
    outcome: failed || refused ? 'Error' : 'Passthrough',
    ...(refused ? { reason: explanationOf(refused), reasonCode: refused.reasonCode } : {}),
    ...(failed
      ? {
          reason: fault?.detail ?? fault?.message ?? outcome,
          reasonCode: fault?.code ?? `credential.${outcome}`,
        }
      : {}),
    ...(verdict ? { contentSecurity: verdict } : {}),
    httpResponseCode: 200,
    durationMs,
  })
}
