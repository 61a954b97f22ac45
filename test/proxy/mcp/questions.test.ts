import http from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  Client as ClientV2,
  StreamableHTTPClientTransport as TransportV2,
} from '@modelcontextprotocol/client'
import { toNodeHandler } from '@modelcontextprotocol/node'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { CreateMessageRequestSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { acceptedContent, createMcpHandler, inputRequired, McpServer } from '@modelcontextprotocol/server'
import t from 'tap'
import { proves } from '../../requirements.ts'
import { startEverything, startRig } from './rig.ts'

/** A server on the second SDK that asks for a name before it greets: by `input_required`. */
async function startAsking() {
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name: 'asking', version: '1.0.0' })
    server.registerTool('greet', { description: 'greets' }, async (context) => {
      const given = acceptedContent<{ name: string }>(context.mcpReq.inputResponses, 'who')
      if (given) return { content: [{ type: 'text', text: `Hello ${given.name}` }] }
      return inputRequired({
        inputRequests: {
          who: inputRequired.elicit({
            message: 'Who?',
            requestedSchema: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] },
          }),
        },
        requestState: 'asked',
      })
    })
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

t.test('servers nobody here wrote ask clients nobody here wrote', async (t) => {
  proves(t, 'MCP-PEERS-02')
  const [everything, asking, rig] = await Promise.all([startEverything(), startAsking(), startRig()])
  t.teardown(async () => {
    await Promise.all([everything.close(), asking.close(), rig.close()])
  })
  rig.setServers([
    { prefix: 'every', url: everything.url },
    { prefix: 'asking', url: asking.url },
  ])
  const textOf = (result: unknown): string => JSON.stringify((result as { content: unknown }).content)

  await t.test('SDK v1 client', async (t) => {
    const client = new ClientV1(
      { name: 'v1', version: '1' },
      { capabilities: { sampling: {}, elicitation: {} } },
    )
    client.setRequestHandler(CreateMessageRequestSchema, async () => ({
      model: 'test-model',
      role: 'assistant',
      content: { type: 'text', text: 'sampled words' },
    }))
    client.setRequestHandler(ElicitRequestSchema, async () => ({
      action: 'accept',
      content: { name: 'Ann' },
    }))
    await client.connect(new TransportV1(rig.url))
    t.teardown(() => client.close())
    const { tools } = await client.listTools()
    t.ok(
      tools.some(({ name }) => name === 'every_trigger-sampling-request'),
      'listed for what the client can do',
    )
    const sampled = await client.callTool({
      name: 'every_trigger-sampling-request',
      arguments: { prompt: 'hi' },
    })
    t.match(textOf(sampled), /sampled words/)
    t.match(
      textOf(await client.callTool({ name: 'every_trigger-elicitation-request', arguments: {} })),
      /Ann/,
    )
    t.match(textOf(await client.callTool({ name: 'asking_greet', arguments: {} })), /Hello Ann/)
  })

  await t.test('a client that can not be asked', async (t) => {
    const client = new ClientV1({ name: 'v1', version: '1' })
    await client.connect(new TransportV1(rig.url))
    t.teardown(() => client.close())
    const { tools } = await client.listTools()
    t.notOk(tools.some(({ name }) => name === 'every_trigger-sampling-request'))
  })

  await t.test('SDK v2 client, modern', async (t) => {
    const client = new ClientV2(
      { name: 'v2', version: '1' },
      { versionNegotiation: { mode: 'auto' }, capabilities: { elicitation: { form: {} } } },
    )
    client.setRequestHandler('elicitation/create', async () => ({
      action: 'accept',
      content: { name: 'Bob' },
    }))
    await client.connect(new TransportV2(rig.url))
    t.teardown(() => client.close())
    t.match(textOf(await client.callTool({ name: 'asking_greet', arguments: {} })), /Hello Bob/)
  })
})
