import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import type { ContentGuard, ContentSecurity } from '../../../shared/wire/content-security.ts'
import type { Snapshot } from '../../../shared/wire/snapshot.ts'
import { type Handler, post, startLegacy } from './legacy-server.ts'
import { startRig } from './rig.ts'

export type Asked = { path: string; authorization: string | undefined; body: JsonObject }

/** Stands in for a guard: `answer` decides, every question is kept. */
export async function startGuard(
  t: Test,
  answer: (asked: Asked, response: ServerResponse, nth: number) => unknown,
): Promise<{ url: string; asked: Asked[] }> {
  const asked: Asked[] = []
  const server = createServer(async (request: IncomingMessage, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const body = JSON.parse(Buffer.concat(chunks).toString())
    asked.push({ path: request.url ?? '', authorization: request.headers.authorization, body })
    const said = answer(asked.at(-1)!, response, asked.length)
    if (said === undefined) return
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(said))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked }
}

const common = {
  id: 'g',
  name: 'Guard',
  failOpen: false,
  timeoutMs: 2_000,
  maxRetries: 0,
  allowedNetworks: ['127.0.0.0/8'],
  secret: true,
}
export const aidr = (baseUrl: string, more: Partial<ContentGuard> = {}): ContentGuard =>
  ({ ...common, type: 'CrowdStrikeAIDR', baseUrl, ...more }) as ContentGuard
export const hook = (url: string, more: Partial<ContentGuard> = {}): ContentGuard =>
  ({
    ...common,
    type: 'HttpGuard',
    url,
    checks: ['listing', 'input', 'output'],
    secret: false,
    ...more,
  }) as ContentGuard

export const json = (body: { id?: number }, response: ServerResponse, result: JsonObject): void => {
  response
    .writeHead(200, { 'content-type': 'application/json' })
    .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result }))
}
const tools = [
  { name: 'find', description: 'Finds. Secret: tool-prose', inputSchema: { type: 'object' } },
  { name: 'drop', description: 'Drops.', inputSchema: { type: 'object' } },
]

export async function world(
  t: Test,
  security: ContentSecurity[],
  onCall?: Handler,
  methods: Record<string, Handler> = {},
  capabilities?: JsonObject,
) {
  const rig = await startRig()
  const server = await startLegacy(
    onCall ??
      ((body, response) =>
        json(body, response, {
          content: [{ type: 'text', text: `found ${JSON.stringify(body.params?.arguments)}` }],
        })),
    {
      methods: { 'tools/list': (body, response) => json(body, response, { tools }), ...methods },
      ...(capabilities ? { capabilities } : {}),
    },
  )
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.credentials.answer = (asked) =>
    asked.id.startsWith('contentSecurity/')
      ? {
          kind: 'headers',
          headers: [{ name: 'Authorization', value: `Bearer of ${asked.id}` }],
          expiresAt: null,
          credentialProviderId: 'g',
        }
      : { kind: 'none' }
  rig.setServers([{ prefix: 'crm', url: server.url }], [], (snapshot: Snapshot) => ({
    ...snapshot,
    contentSecurity: security,
    policies: snapshot.policies.map((policy) => ({
      ...policy,
      contentSecurity: security.map(({ id }) => id),
    })),
  }))
  return {
    rig,
    server,
    list: async () => ((await post(rig, 'tools/list')).last.result?.tools ?? []) as JsonObject[],
    call: async (args: JsonObject, name = 'crm_find') =>
      (await post(rig, 'tools/call', { name, arguments: args })).last,
    calls: () => server.seen.filter(({ method }) => method === 'tools/call'),
    stats: () => {
      const stats = rig.core.stats()
      return ['scanned', 'fail_open', 'fail_closed'].map(
        (name) => stats[`${security.at(-1)?.type === 'HttpGuard' ? 'httpGuard' : 'aidrGuard'}.${name}`],
      )
    },
  }
}
