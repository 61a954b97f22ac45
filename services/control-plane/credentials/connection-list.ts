import type { SnapshotSource } from '../fleet/snapshots.ts'
import type { ConnectionView } from './connect-pages.ts'
import type { Target } from './grants.ts'
import type { StoredCredential } from './vault.ts'

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

/** Servers that want an account of this person, and what is stored for others. */
export function listViews(
  snapshots: SnapshotSource,
  stored: readonly StoredCredential[],
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
    views.push({
      ...each,
      serverName: config.serverWorkloads.find(({ id }) => id === each.serverId)?.name ?? each.serverId,
      reachable: target?.provider.id === each.providerId,
    })
  }
  return views.sort((a, b) => a.serverName.localeCompare(b.serverName))
}

const nothing = {
  state: 'none',
  account: null,
  scopes: '',
  expiresAt: null,
  lastUsedAt: null,
  lastError: null,
} as const
