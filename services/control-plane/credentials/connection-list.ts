import type { SnapshotSource } from '../fleet/snapshots.ts'
import type { ConnectionView } from './connect-pages.ts'
import type { Listed } from './connections.ts'
import type { Target } from './grants.ts'

/** By configuration alone: disconnecting works where policy no longer lets the person in. */
export function configuredTarget(
  snapshots: SnapshotSource,
  serverId: string,
  providerId: string,
): Target | undefined {
  const { config } = snapshots.current()
  const server = config.serverWorkloads.find(({ id }) => id === serverId)
  const provider = config.credentialProviders.find(({ id }) => id === providerId)
  return server && provider?.type === 'mcp-user-based-access-token' ? { server, provider } : undefined
}

/** Servers that want an account of this person, and what is stored for others. `now`: milliseconds since the epoch. */
export function listViews(
  snapshots: SnapshotSource,
  stored: readonly Listed[],
  now: number,
  targetOf: (serverId: string) => Target | undefined,
): ConnectionView[] {
  const { config } = snapshots.current()
  const views: ConnectionView[] = []
  for (const { id, name } of config.serverWorkloads) {
    const target = targetOf(id)
    const own = stored.find(
      ({ serverId, providerId }) => serverId === id && providerId === target?.provider.id,
    )
    if (target && !own) {
      views.push({
        ...nothing,
        serverId: id,
        serverName: name,
        providerId: target.provider.id,
        reachable: true,
      })
    }
  }
  for (const each of stored) {
    const target = targetOf(each.serverId)
    const over = each.expiresAt !== null && each.expiresAt <= now && !each.renews
    views.push({
      ...each,
      state: each.state === 'connected' && over ? 'ended' : each.state,
      serverName: config.serverWorkloads.find(({ id }) => id === each.serverId)?.name ?? each.serverId,
      reachable: target?.provider.id === each.providerId,
    })
  }
  return views.sort((a, b) => a.serverName.localeCompare(b.serverName))
}

const nothing = {
  state: 'none',
  renews: false,
  account: null,
  scopes: '',
  expiresAt: null,
  lastUsedAt: null,
  lastError: null,
} as const
