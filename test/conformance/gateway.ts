import { parseDocument } from 'yaml'
import { startRig } from '../rig/world.ts'
import { startShim } from './shim.ts'

export interface Gateway {
  /** Where the suite goes. */
  readonly url: string
  close(): Promise<void>
}

/** A generated configuration whose one MCP server is at `url`, its names as they are, and needs no credential. */
export function withOnlyServer(yaml: string, url: string): string {
  const document = parseDocument(yaml)
  const server = { id: 'fixture', prefix: null, url, allowedNetworks: ['127.0.0.0/8'] }
  const { accessPolicies } = document.toJS() as { accessPolicies: { id: string }[] }
  const policies = accessPolicies.filter(({ id }) => id === 'agents')
  const policy = { server: 'fixture', trustProviders: ['local-users'], credentialProvider: 'nothing' }
  document.set('serverWorkloads', document.createNode([server]))
  document.set('credentialProviders', document.createNode([{ id: 'nothing', type: 'none' }]))
  document.set('accessPolicies', document.createNode([...policies, { id: 'use-fixture', ...policy }]))
  return document.toString({ lineWidth: 0 })
}

/** The whole gateway before the server at `upstream`, a person signed in, and the shim that carries their token. */
export async function startGateway(upstream: string): Promise<Gateway> {
  const rig = await startRig({
    logLevel: 'warn',
    // What a client sends may reach either: state that only one worker has fails a scenario.
    workers: 2,
    edit: (yaml) => withOnlyServer(yaml, upstream),
  })
  try {
    const agent = rig.agent('ann', { era: 'legacy' })
    await agent.connect()
    const token = agent.provider.stored?.access_token
    if (!token || !rig.caPath) throw new Error('no access token came out of the sign-in')
    const shim = await startShim(rig.url, rig.caPath, token)
    return {
      url: shim.url,
      close: async () => {
        await shim.close()
        await rig.end()
      },
    }
  } catch (error) {
    await rig.end()
    throw error
  }
}
