import { isObject } from './jsonrpc.ts'
import type { JsonObject } from './types.ts'

/** What can change as a whole: a server's list of tools, of prompts, of resources with their templates. */
export type ListChange = 'tools' | 'prompts' | 'resources'
export const listChanges: readonly ListChange[] = ['tools', 'prompts', 'resources']

export const updatedMethod = 'notifications/resources/updated'
export const changedMethod = (change: ListChange): string => `notifications/${change}/list_changed`

const byMethod = new Map(listChanges.map((change) => [changedMethod(change), change] as const))
export const changeOf = (method: string): ListChange | undefined => byMethod.get(method)

export const isChange = ({ method }: { readonly method: string }): boolean =>
  method === updatedMethod || byMethod.has(method)

/** What someone wants to be told: changes of lists, and of the resources at `uris`. */
export interface ChangeFilter {
  readonly lists: ReadonlySet<ListChange>
  readonly uris: ReadonlySet<string>
}

export const noChanges: ChangeFilter = { lists: new Set(), uris: new Set() }

export const isEmpty = ({ lists, uris }: ChangeFilter): boolean => lists.size === 0 && uris.size === 0

const same = (a: ReadonlySet<string>, b: ReadonlySet<string>): boolean =>
  a.size === b.size && [...a].every((item) => b.has(item))

export const sameFilter = (a: ChangeFilter, b: ChangeFilter): boolean =>
  same(a.lists, b.lists) && same(a.uris, b.uris)

export function unionOf(filters: Iterable<ChangeFilter>): ChangeFilter {
  const lists = new Set<ListChange>()
  const uris = new Set<string>()
  for (const filter of filters) {
    for (const change of filter.lists) lists.add(change)
    for (const uri of filter.uris) uris.add(uri)
  }
  return { lists, uris }
}

/** SubscriptionFilter of MCP 2026-07-28: what is false or empty is left out. */
export function toSubscriptionFilter({ lists, uris }: ChangeFilter): JsonObject {
  const filter: JsonObject = {}
  for (const change of listChanges) if (lists.has(change)) filter[`${change}ListChanged`] = true
  if (uris.size > 0) filter.resourceSubscriptions = [...uris]
  return filter
}

/** Reads what a server acknowledged; what is not of its type counts as absent. */
export function fromSubscriptionFilter(filter: unknown): ChangeFilter {
  if (!isObject(filter)) return noChanges
  const { resourceSubscriptions } = filter
  const uris = Array.isArray(resourceSubscriptions) ? resourceSubscriptions : []
  return {
    lists: new Set(listChanges.filter((change) => filter[`${change}ListChanged`] === true)),
    uris: new Set(uris.filter((uri) => typeof uri === 'string')),
  }
}

/** As far as a server advertises it; `null`: it does not say what it can do. */
export function offered(capabilities: JsonObject | null, { lists, uris }: ChangeFilter): ChangeFilter {
  if (capabilities === null) return { lists, uris }
  const can = (what: ListChange, how: string): boolean => {
    const declared = capabilities[what]
    return isObject(declared) && declared[how] === true
  }
  return {
    lists: new Set([...lists].filter((change) => can(change, 'listChanged'))),
    uris: can('resources', 'subscribe') ? uris : new Set(),
  }
}

/**
 * Whether news of `uri` is for who watches one of `watched`: that resource, or a part of it (MCP 2025-11-25, resources:
 * an update may name a sub-resource of the one subscribed to).
 */
export function watches(watched: ReadonlySet<string>, uri: string): boolean {
  if (watched.has(uri)) return true
  for (const whole of watched) {
    if (!uri.startsWith(whole)) continue
    if (whole.endsWith('/') || '/?#'.includes(uri.charAt(whole.length))) return true
  }
  return false
}
