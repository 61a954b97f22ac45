import { isObject } from './jsonrpc.ts'
import { metaKeys } from './shape.ts'
import type { JsonObject } from './types.ts'

/** What can change as a whole: a server's list of tools, of prompts, of resources with their templates. */
export type ListChange = 'tools' | 'prompts' | 'resources'
export const listChanges: readonly ListChange[] = ['tools', 'prompts', 'resources']

export const updatedMethod = 'notifications/resources/updated'
/** A task is another one now (extension io.modelcontextprotocol/tasks); its params are the task. */
export const taskMethod = 'notifications/tasks'
export const changedMethod = (change: ListChange): string => `notifications/${change}/list_changed`

const byMethod = new Map(listChanges.map((change) => [changedMethod(change), change] as const))
export const changeOf = (method: string): ListChange | undefined => byMethod.get(method)

export const isChange = ({ method }: { readonly method: string }): boolean =>
  method === updatedMethod || byMethod.has(method)

/** What someone wants to be told: changes of lists, of the resources at `uris`, of tasks by their ids at the server. */
export interface ChangeFilter {
  readonly lists: ReadonlySet<ListChange>
  readonly uris: ReadonlySet<string>
  readonly tasks: ReadonlySet<string>
}

export const noChanges: ChangeFilter = { lists: new Set(), uris: new Set(), tasks: new Set() }

export const isEmpty = ({ lists, uris, tasks }: ChangeFilter): boolean =>
  lists.size === 0 && uris.size === 0 && tasks.size === 0

const same = (a: ReadonlySet<string>, b: ReadonlySet<string>): boolean =>
  a.size === b.size && [...a].every((item) => b.has(item))

export const sameFilter = (a: ChangeFilter, b: ChangeFilter): boolean =>
  same(a.lists, b.lists) && same(a.uris, b.uris) && same(a.tasks, b.tasks)

export function unionOf(filters: Iterable<ChangeFilter>): ChangeFilter {
  const lists = new Set<ListChange>()
  const uris = new Set<string>()
  const tasks = new Set<string>()
  for (const filter of filters) {
    for (const change of filter.lists) lists.add(change)
    for (const uri of filter.uris) uris.add(uri)
    for (const task of filter.tasks) tasks.add(task)
  }
  return { lists, uris, tasks }
}

/** SubscriptionFilter of MCP 2026-07-28: what is false or empty is left out. */
export function toSubscriptionFilter({ lists, uris, tasks }: ChangeFilter): JsonObject {
  const filter: JsonObject = {}
  for (const change of listChanges) if (lists.has(change)) filter[`${change}ListChanged`] = true
  if (uris.size > 0) filter.resourceSubscriptions = [...uris]
  if (tasks.size > 0) filter.taskIds = [...tasks]
  return filter
}

/** Reads what a server acknowledged; what is not of its type counts as absent. */
export function fromSubscriptionFilter(filter: unknown): ChangeFilter {
  if (!isObject(filter)) return noChanges
  const strings = (value: unknown): Set<string> =>
    new Set((Array.isArray(value) ? value : []).filter((item) => typeof item === 'string'))
  return {
    lists: new Set(listChanges.filter((change) => filter[`${change}ListChanged`] === true)),
    uris: strings(filter.resourceSubscriptions),
    tasks: strings(filter.taskIds),
  }
}

/** As far as a server advertises it; `null`: it does not say what it can do. */
export function offered(capabilities: JsonObject | null, filter: ChangeFilter): ChangeFilter {
  if (capabilities === null) return filter
  const { lists, uris, tasks } = filter
  const { extensions } = capabilities
  const can = (what: ListChange, how: string): boolean => {
    const declared = capabilities[what]
    return isObject(declared) && declared[how] === true
  }
  return {
    lists: new Set([...lists].filter((change) => can(change, 'listChanged'))),
    uris: can('resources', 'subscribe') ? uris : new Set(),
    tasks: isObject(extensions) && isObject(extensions[metaKeys.tasks]) ? tasks : new Set(),
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
