import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { parseDocument } from 'yaml'
import { writeFileAtomic } from '../../../shared/files.ts'
import { startRig } from '../../rig/world.ts'
import type { Revision } from '../suite.ts'
import { play, type Scenario } from './play.ts'

export interface Host {
  /** Where drivers hand their scenarios in. */
  readonly url: string
  close(): Promise<void>
}

/**
 * One world for all scenarios of a revision. Each scenario's server becomes the only server workload, under an id that no
 * other had, so that nothing of one scenario is left for the next; they take turns.
 */
export async function startHost(revision: Revision): Promise<Host> {
  const rig = await startRig({ logLevel: 'info' })
  let count = 0
  let turn: Promise<unknown> = Promise.resolve()

  const run = async (scenario: Scenario): Promise<string[]> => {
    const id = `scenario-${++count}`
    const yaml = await readFile(rig.configPath, 'utf8')
    await writeFileAtomic(rig.configPath, withScenario(yaml, id, scenario))
    const plane = rig.processes.get('control-plane')
    if (!plane) throw new Error('the control plane is gone')
    process.kill(plane.pid, 'SIGHUP')
    const agent = rig.agent('ann', { era: revision === '2026-07-28' ? 'modern' : 'legacy' })
    try {
      return await play(agent, id, scenario)
    } catch (error) {
      // What the control plane said tells a refused configuration from a slow machine.
      throw new Error(`${String(error)}\n${plane.log.tail(5)}`, { cause: error })
    } finally {
      await agent.close()
    }
  }

  const server = createServer(async (request, response) => {
    const scenario = JSON.parse(await text(request)) as Scenario
    const mine = turn.then(() => run(scenario))
    turn = mine.catch(() => {})
    mine.then(
      (lines) => response.writeHead(200).end(lines.join('\n')),
      (error: unknown) => response.writeHead(500).end(error instanceof Error ? error.stack : String(error)),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await rig.end()
    },
  }
}

const loopback = ['127.0.0.0/8', '::1/128']

/** The configuration with this scenario's server alone, and a person's own account at it where it wants one. */
function withScenario(yaml: string, id: string, { scenario, url, context }: Scenario): string {
  const document = parseDocument(yaml)
  const { accessPolicies } = document.toJS() as { accessPolicies: { id: string }[] }
  const provider = scenario.startsWith('auth/')
    ? {
        id: `${id}-account`,
        type: 'mcp-user-based-access-token',
        allowedNetworks: loopback,
        ...(context.client_id ? { clientId: context.client_id } : {}),
        ...(context.client_secret ? { clientSecret: { value: context.client_secret } } : {}),
      }
    : { id: `${id}-account`, type: 'none' }
  const server = { id, url, prefix: id, allowedNetworks: loopback }
  const policy = {
    id: `use-${id}`,
    server: id,
    trustProviders: ['local-users'],
    credentialProvider: provider.id,
  }
  document.set('serverWorkloads', document.createNode([server]))
  document.set('credentialProviders', document.createNode([provider]))
  document.set(
    'accessPolicies',
    document.createNode([...accessPolicies.filter((other) => other.id === 'agents'), policy]),
  )
  return document.toString({ lineWidth: 0 })
}
