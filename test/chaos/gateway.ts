import { globalAgent } from 'node:https'
import { startGateway } from '../interop/world.ts'
import type { Servers } from './run.ts'

const loopback = { allowedNetworks: ['127.0.0.0/8'] }

/** The whole appliance with two proxies before the servers, and so little patience with a call that says nothing. */
export async function startChaosGateway(servers: Servers, patienceSecs: number) {
  const gateway = await startGateway(
    [
      { id: 'legacy', workload: { url: servers.legacy.url, ...loopback } },
      {
        id: 'modern',
        workload: { url: servers.modern.url, ...loopback },
        env: { AEMBIT_MCP_GATEWAY_TIMEOUT: `tools_call=${patienceSecs}s` },
      },
    ],
    { workers: 2 },
  )
  // What waited for the start left a connection open, and is none of the load.
  globalAgent.destroy()
  return gateway
}
