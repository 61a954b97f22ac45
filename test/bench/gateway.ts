import type { Rig } from '../rig/world.ts'

/** Signs Ann in, opens a legacy session and makes one call, so that catalogue and credential are warm. */
export async function openGateway(rig: Rig): Promise<Record<string, string>> {
  const agent = rig.agent('ann', { era: 'legacy' })
  const client = await agent.connect()
  await client.callTool({ name: 'bench_lookup', arguments: { id: '1' } })
  const token = agent.provider.stored?.access_token
  if (!token) throw new Error('no access token came out of the sign-in')
  const common = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
  }
  const answer = await agent.fetch(rig.url, {
    method: 'POST',
    headers: common,
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 0,
      method: 'initialize',
      params: {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'bench', version: '1' },
      },
    }),
  })
  await answer.text()
  const session = answer.headers.get('mcp-session-id')
  if (answer.status !== 200 || !session) throw new Error(`initialize answered ${answer.status}`)
  const headers = { ...common, 'mcp-session-id': session, 'mcp-protocol-version': '2025-11-25' }
  const body = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' })
  await (await agent.fetch(rig.url, { method: 'POST', headers, body })).text()
  return headers
}
