import { mkdtempSync, rmSync } from 'node:fs'
import { globalAgent } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Access } from '../interop/clients.ts'
import { startGateway } from '../interop/world.ts'
import type { Rig } from '../rig/world.ts'
import { heldOptions } from './held.ts'
import { type ChaosServer, startChaosServer } from './server.ts'

const loopback = { allowedNetworks: ['127.0.0.0/8'] }

export interface Servers {
  readonly legacy: ChaosServer
  readonly modern: ChaosServer
}

export interface ChaosWorld {
  readonly rig: Rig
  readonly access: Access
  readonly servers: Servers
  /** Where the gateway's processes say what they hold. */
  readonly heldDir: string
  end(): Promise<void>
}

/** Two servers, and before them the whole appliance with two proxies and so little patience with a call that says nothing. */
export async function startChaosWorld(patienceSecs: number): Promise<ChaosWorld> {
  const heldDir = mkdtempSync(join(tmpdir(), 'chaos-'))
  const servers: Servers = {
    legacy: await startChaosServer('legacy'),
    modern: await startChaosServer('modern'),
  }
  const end = async (): Promise<void> => {
    await Promise.all([servers.legacy.close(), servers.modern.close()])
    rmSync(heldDir, { recursive: true, force: true })
  }
  try {
    const env = {
      AEMBIT_MCP_GATEWAY_TIMEOUT: `tools_call=${patienceSecs}s`,
      NODE_OPTIONS: heldOptions(heldDir),
    }
    const gateway = await startGateway(
      [
        { id: 'legacy', workload: { url: servers.legacy.url, ...loopback } },
        { id: 'modern', workload: { url: servers.modern.url, ...loopback }, env },
      ],
      { workers: 2 },
    )
    // What waited for the start left a connection open, and is none of the load.
    globalAgent.destroy()
    return {
      ...gateway,
      servers,
      heldDir,
      end: async () => {
        await gateway.end()
        await end()
      },
    }
  } catch (error) {
    await end()
    throw error
  }
}
