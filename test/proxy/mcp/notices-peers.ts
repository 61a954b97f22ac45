import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { toNodeHandler } from '@modelcontextprotocol/node'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import type { JsonObject, JsonRpcMessage } from '../../../services/proxy/mcp/protocol/types.ts'
import { freePort } from '../../rig/free-port.ts'
import { modernMeta } from './modern-server.ts'
import type { Rig } from './rig.ts'

/** A modern server on the second SDK that says what changed when it is told to, and counts who listens. */
export async function startNotifier(port?: number) {
  const at = port ?? freePort()
  let opened = 0
  const open = new Set<http.ServerResponse>()
  const filters: JsonObject[] = []
  const handler = createMcpHandler(
    () => {
      const server = new McpServer(
        { name: 'notifier', version: '1.0.0' },
        { capabilities: { resources: { subscribe: true } } },
      )
      server.registerTool('go', { description: 'goes' }, async () => ({ content: [] }))
      server.registerPrompt('say', {}, async () => ({ messages: [] }))
      for (const name of ['one', 'two', 'three'])
        server.registerResource(name, `note://${at}/${name}`, {}, async ({ href }) => ({
          contents: [{ uri: href, text: name }],
        }))
      return server
    },
    { legacy: 'reject' },
  )
  const handle = toNodeHandler(handler)
  const server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const body = JSON.parse(Buffer.concat(chunks).toString() || '{}')
    if (body.method === 'subscriptions/listen') {
      opened++
      filters.push(body.params.notifications)
      open.add(response)
      response.on('close', () => open.delete(response))
    }
    await handle(request, response, body)
  })
  await new Promise<void>((resolve) => server.listen(at, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    port: at,
    notify: handler.notify,
    /** Listen streams that are open now. */
    listening: () => open.size,
    opened: () => opened,
    filters,
    /** Breaks every stream, as a crash does. */
    cut: () => {
      for (const response of open) response.destroy()
    },
    close: async () => {
      await handler.close()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** A modern client of the second SDK and what it was told. */
export async function connectModern(rig: Rig, capabilities: JsonObject = {}) {
  const heard: string[] = []
  const client = new Client(
    { name: 'listener', version: '1' },
    { versionNegotiation: { mode: 'auto' }, capabilities },
  )
  const waiters = new Set<() => void>()
  const note = (what: string): void => {
    heard.push(what)
    for (const wake of waiters) wake()
  }
  client.setNotificationHandler('notifications/tools/list_changed', () => note('tools'))
  client.setNotificationHandler('notifications/prompts/list_changed', () => note('prompts'))
  client.setNotificationHandler('notifications/resources/list_changed', () => note('resources'))
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => note(params.uri))
  await client.connect(new StreamableHTTPClientTransport(rig.url))
  return {
    client,
    heard,
    /** Resolves once `what` was heard; what came before counts too. */
    hears: async (what: string, times = 1) => {
      while (heard.filter((said) => said === what).length < times) {
        await new Promise<void>((resolve) => {
          waiters.add(resolve)
        })
      }
    },
    close: () => client.close(),
  }
}

/** A `subscriptions/listen` by hand: every message of its stream as it came. */
export async function listenRaw(
  rig: { readonly url: URL },
  notifications: unknown,
  {
    id = 7,
    headers = {},
    capabilities = {},
  }: { id?: number | string; headers?: Record<string, string>; capabilities?: JsonObject } = {},
) {
  const abort = new AbortController()
  const response = await fetch(rig.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id,
      method: 'subscriptions/listen',
      params: { notifications, _meta: modernMeta(capabilities) },
    }),
    signal: abort.signal,
  })
  const messages: (JsonRpcMessage & { method?: string; params?: JsonObject; result?: JsonObject })[] = []
  const waiters = new Set<() => void>()
  let over = false
  const reading = (async () => {
    let rest = ''
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      rest += chunk
      const events = rest.split('\n\n')
      rest = events.pop() ?? ''
      for (const event of events) {
        const data = /^data: (.*)$/m.exec(event)?.[1]
        if (data) messages.push(JSON.parse(data))
      }
      for (const wake of waiters) wake()
    }
    if (rest.startsWith('{')) messages.push(JSON.parse(rest))
  })()
    .catch(() => {})
    .finally(() => {
      over = true
      for (const wake of waiters) wake()
    })
  return {
    status: response.status,
    messages,
    /** The first message that fits, as soon as it is there. Rejects where the stream ends before. */
    async until(fits: (message: (typeof messages)[number]) => boolean) {
      for (;;) {
        const found = messages.find(fits)
        if (found) return found
        if (over) throw new Error(`the stream ended: ${JSON.stringify(messages)}`)
        await new Promise<void>((resolve) => {
          waiters.add(resolve)
        })
      }
    },
    ended: reading,
    abort: () => abort.abort(),
  }
}

/** A listener that reads nothing before it is told to. */
export async function connectSlow(rig: { readonly url: URL }, notifications: JsonObject) {
  const request = http.request(rig.url, { method: 'POST' })
  const params = { notifications, _meta: modernMeta() }
  request.end(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'subscriptions/listen', params }))
  const response = await new Promise<http.IncomingMessage>((resolve) => request.once('response', resolve))
  let text = ''
  response.pause()
  return {
    bytes: () => response.socket.bytesRead,
    text: () => text,
    resume: () => {
      response.on('data', (chunk) => {
        text += chunk
      })
      response.resume()
    },
    close: () => request.destroy(),
  }
}

/** Polls what has no event of its own; the test's own time-out ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}
