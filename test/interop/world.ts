import { parseDocument } from 'yaml'
import type { WorldOptions } from '../../installer/quickstart/world.ts'
import { type Rig, startRig } from '../rig/world.ts'
import type { Access } from './clients.ts'
import type { Peer } from './peers/peer.ts'

/** A generated configuration with these MCP servers alone, their prefix their id, open to everyone who signed in. */
export function withPeers(yaml: string, peers: readonly Pick<Peer, 'id' | 'workload'>[]): string {
  const document = parseDocument(yaml)
  const { accessPolicies } = document.toJS() as { accessPolicies: { id: string }[] }
  const policies = [
    ...accessPolicies.filter(({ id }) => id === 'agents'),
    ...peers.map(({ id }) => ({
      id: `use-${id}`,
      server: id,
      trustProviders: ['local-users'],
      credentialProvider: 'nothing',
    })),
  ]
  const servers = peers.map(({ id, workload }) => ({ id, prefix: id, ...workload }))
  document.set('serverWorkloads', document.createNode(servers))
  document.set('credentialProviders', document.createNode([{ id: 'nothing', type: 'none' }]))
  document.set('accessPolicies', document.createNode(policies))
  return document.toString({ lineWidth: 0 })
}

/** The whole appliance before the peers, and what a client of a signed-in person needs to come in. */
export async function startGateway(
  peers: readonly Pick<Peer, 'id' | 'workload' | 'env'>[],
  options: Partial<WorldOptions> = {},
): Promise<{ rig: Rig; access: Access; end(): Promise<void> }> {
  const env = Object.assign({}, ...peers.map((peer) => peer.env)) as Record<string, string>
  const rig = await startRig({
    logLevel: 'warn',
    ...options,
    edit: (yaml) => withPeers(yaml, peers),
    adapt: (launch) => (launch.name === 'gateway' ? { ...launch, env: { ...launch.env, ...env } } : launch),
  })
  try {
    const agent = rig.agent('ann', { era: 'legacy' })
    await agent.connect()
    const token = agent.provider.stored?.access_token
    await agent.close()
    if (!token || !rig.caPath) throw new Error('no access token came out of the sign-in')
    return { rig, access: { url: rig.url, caPath: rig.caPath, token }, end: () => rig.end() }
  } catch (error) {
    await rig.end()
    throw error
  }
}
