import http from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  Client as ClientV2,
  StreamableHTTPClientTransport as TransportV2,
} from '@modelcontextprotocol/client'
import { toNodeHandler } from '@modelcontextprotocol/node'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import t from 'tap'
import { z } from 'zod'
import { proves } from '../../requirements.ts'
import { startEverything, startRig } from './rig.ts'

async function startModern() {
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name: 'modern', version: '1.0.0' })
    server.registerTool(
      'add',
      { description: 'adds', inputSchema: z.object({ a: z.number(), b: z.number() }) },
      async ({ a, b }) => ({
        content: [{ type: 'text', text: String(a + b) }],
      }),
    )
    server.registerResource('motto', 'modern://motto', { mimeType: 'text/plain' }, async (uri) => ({
      contents: [{ uri: uri.href, text: 'stateless' }],
    }))
    return server
  })
  const server = http.createServer(toNodeHandler(handler))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

t.test('clients nobody here wrote, servers of both eras', async (t) => {
  proves(t, 'MCP-PEERS-01')
  const [everything, modern, rig] = await Promise.all([startEverything(), startModern(), startRig()])
  t.teardown(async () => {
    await Promise.all([everything.close(), modern.close(), rig.close()])
  })
  rig.setServers(
    [
      { prefix: 'every', url: everything.url },
      { prefix: 'modern', url: modern.url },
      { prefix: 'down', url: 'http://127.0.0.1:1/mcp' },
      { prefix: 'secret', url: modern.url },
    ],
    ['secret'],
  )

  const connect = {
    v1: async () => {
      const client = new ClientV1({ name: 'v1', version: '1' })
      await client.connect(new TransportV1(rig.url))
      return client
    },
    'v2 legacy': async () => {
      const client = new ClientV2({ name: 'v2', version: '1' })
      await client.connect(new TransportV2(rig.url))
      return client
    },
    'v2 modern': async () => {
      const client = new ClientV2({ name: 'v2', version: '1' }, { versionNegotiation: { mode: 'auto' } })
      await client.connect(new TransportV2(rig.url))
      return client
    },
  }

  for (const [name, open] of Object.entries(connect)) {
    await t.test(name, async (t) => {
      const client = await open()
      t.teardown(() => client.close())
      const { tools, _meta } = await client.listTools()
      const names = tools.map((tool) => tool.name)
      t.ok(names.includes('every_echo'), 'a tool of the legacy server')
      t.ok(names.includes('modern_add'), 'a tool of the modern server')
      t.notOk(
        names.some((tool) => tool.startsWith('secret_')),
        'nothing of a server that policy denies',
      )
      t.ok(names.indexOf('every_echo') < names.indexOf('modern_add'), 'servers in configuration order')
      t.match(_meta, {
        'io.aembit/servers': [
          { server: 'every', outcome: 'ok' },
          { server: 'modern', outcome: 'ok' },
          { server: 'down', outcome: 'error' },
        ],
      })

      const echo = await client.callTool({ name: 'every_echo', arguments: { message: 'hi' } })
      t.match(echo.content, [{ type: 'text', text: 'Echo: hi' }])
      const sum = await client.callTool({ name: 'modern_add', arguments: { a: 2, b: 3 } })
      t.match(sum.content, [{ type: 'text', text: '5' }])

      // The two SDKs disagree on the types of callTool, not on what it does.
      const call = async (request: { name: string; arguments: Record<string, unknown> }): Promise<unknown> =>
        client.callTool(request)
      const unknown = await call({ name: 'every_nothing_here', arguments: {} }).catch((error) => error)
      t.ok(
        unknown instanceof Error || (unknown as { isError?: boolean }).isError,
        'the server itself says no',
      )
      await t.rejects(call({ name: 'nowhere_tool', arguments: {} }), { code: -32602 })
      await t.rejects(call({ name: 'secret_add', arguments: { a: 1, b: 1 } }), { code: 4030 })
      await t.rejects(call({ name: 'down_anything', arguments: {} }), { code: 5020 })

      const { resources } = await client.listResources()
      t.ok(resources.some(({ uri }) => uri === 'modern://motto'))
      const motto = await client.readResource({ uri: 'modern://motto' })
      t.match(motto.contents, [{ text: 'stateless' }])
      const { resourceTemplates } = await client.listResourceTemplates()
      t.ok(resourceTemplates.length > 0)
      const { prompts } = await client.listPrompts()
      t.ok(prompts.some((prompt) => prompt.name === 'every_simple-prompt'))
      const prompt = await client.getPrompt({ name: 'every_simple-prompt' })
      t.ok(prompt.messages.length > 0)

      const progress: number[] = []
      await client.callTool(
        { name: 'every_trigger-long-running-operation', arguments: { duration: 0.4, steps: 4 } },
        ...((name === 'v1' ? [undefined] : []) as []),
        { onprogress: ({ progress: done }: { progress: number }) => progress.push(done) } as never,
      )
      t.ok(progress.length >= 3, `progress came through (${progress.length})`)
      t.same(
        progress,
        [...progress].sort((a, b) => a - b),
        'and it rises',
      )
    })
  }

  t.test('every call to a server left a request and a response', async (t) => {
    const of = (tool: string, type: string) =>
      rig.events.filter((event) => event.toolName === tool && event.type === type)
    t.equal(of('echo', 'request').length, 3)
    t.equal(of('echo', 'response').length, 3)
    t.match(of('echo', 'response')[0], {
      server: { id: 'every' },
      decision: { policyId: 'p-every' },
      outcome: 'Passthrough',
    })
  })
})
