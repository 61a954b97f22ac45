import type { DiscoveryNetworks } from './discovery.ts'
import { createOutbound, type Outbound } from './outbound.ts'

interface Reachable {
  /** CIDR blocks. */
  readonly allowedNetworks: readonly string[]
}

export interface Networks {
  of(provider: Reachable, server: Reachable): DiscoveryNetworks
  /** For addresses that the configuration of a provider itself names. */
  only(allowed: readonly string[]): Outbound
  close(): Promise<void>
}

/**
 * Which private networks may be called for whom. The MCP server may be where its workload says; what its metadata
 * names is the server's own choice, so for that only the networks of the credential provider count: a server in a
 * private network can not point us at its neighbours.
 */
export function createNetworks(): Networks {
  const made = new Map<string, Outbound>()
  const outbound = (allowed: readonly string[]): Outbound => {
    const blocks = [...new Set(allowed)].sort()
    const key = blocks.join(' ')
    const found = made.get(key) ?? createOutbound(blocks)
    made.set(key, found)
    return found
  }
  return {
    only: outbound,
    of: (provider, server) => ({
      server: outbound([...server.allowedNetworks, ...provider.allowedNetworks]),
      elsewhere: outbound(provider.allowedNetworks),
    }),
    close: async () => {
      await Promise.all([...made.values()].map((each) => each.close()))
    },
  }
}
