import type { Client } from '@modelcontextprotocol/client'
import type { ScriptedAgent } from './agent.ts'
import { auditTable, type TrailEvent } from './audit-table.ts'

export interface TryRun {
  readonly agent: ScriptedAgent
  readonly url: string
  readonly adminToken: string
  print(line: string): void
}

interface ToolResult {
  readonly content?: readonly { type: string; text?: string }[]
  readonly isError?: boolean
}

const textOf = (result: unknown): string =>
  ((result as ToolResult).content ?? []).map((part) => part.text ?? `[${part.type}]`).join(' ')
const short = (text: string): string =>
  (text.length > 100 ? `${text.slice(0, 100)}…` : text).replaceAll('\n', ' · ')

/** The steps of `npm run try`, in order. The first that fails is named in the error. */
export async function runTry({ agent, url, adminToken, print }: TryRun): Promise<void> {
  const step = async <T>(name: string, work: () => Promise<readonly [T, string]>): Promise<T> => {
    try {
      const [value, told] = await work()
      print(`✓ ${name.padEnd(10)} ${short(told)}`)
      return value
    } catch (error) {
      throw new Error(`${name}: ${error instanceof Error ? error.message : error}`, { cause: error })
    }
  }
  const { fetch, provider } = agent

  await step('discover', async () => {
    const refused = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    })
    await refused.body?.cancel()
    const metadataUrl = /resource_metadata="([^"]+)"/.exec(refused.headers.get('www-authenticate') ?? '')?.[1]
    if (refused.status !== 401 || !metadataUrl)
      throw new Error(`expected 401 with resource_metadata, got ${refused.status}`)
    const metadata = (await (await fetch(metadataUrl)).json()) as { authorization_servers: string[] }
    return [undefined, `${url} asks for tokens of ${metadata.authorization_servers.join(', ')}`]
  })
  const client = await step('sign in', async () => {
    const connected = await agent.connect()
    const era = connected.getNegotiatedProtocolVersion()
    return [connected, `registered as ${provider.client?.client_id}, signed in, speaks ${era}`]
  })
  const clientId = provider.client?.client_id ?? ''
  const list = async (): Promise<readonly [string[], string]> => {
    const listed = (await client.listTools()).tools.map(({ name }) => name)
    const prefixes = [...new Set(listed.map((name) => name.split('_')[0]))]
    return [listed, `${listed.length} tools of ${prefixes.join(', ')}`]
  }
  let tools = await step('list', list)

  const call = (name: string, args: Record<string, unknown>): Promise<string> =>
    callTool(client, tools, name, args)
  await step('everything', async () => [undefined, await call('everything_echo', { message: 'hello' })])
  await step('weather', async () => [undefined, await call('weather_get_weather', { city: 'Bern' })])
  const link = await step('notes', async () => {
    // Before an account is connected its server's tools are not known: one tool stands for them.
    const name = tools.includes('notes_whoami') ? 'notes_whoami' : 'notes_connect'
    const result = await client.callTool({ name, arguments: {} })
    const found = /https?:\/\/[^\s"'<>)\]]+\/connections\/[^\s"'<>)\]]+/.exec(textOf(result))?.[0]
    return [found, found ? 'asks to connect an account first' : `already connected: ${textOf(result)}`]
  })
  if (link) {
    await step('connect', async () => [
      undefined,
      `went through the link: "${(await agent.followConsent(link)).title}"`,
    ])
  }
  if (link) tools = await step('list again', list)
  await step('whoami', async () => [undefined, `notes answers for ${await call('notes_whoami', {})}`])
  await step('add a note', async () => [
    undefined,
    await call('notes_add_note', { text: 'written by npm run try' }),
  ])
  await step('resource', async () => {
    const { contents } = await client.readResource({ uri: 'notes://all' })
    const [first] = contents
    return [undefined, `notes://all: ${first && 'text' in first ? first.text : 'not a text'}`]
  })
  await step('audit', async () => {
    const made = [
      { method: 'tools/call', least: 5 },
      { method: 'resources/read', least: 1 },
    ]
    const events = await awaitEvents(fetch, new URL(url).origin, adminToken, clientId, made)
    return [print(`\n${auditTable(events)}\n`), `${events.length} events of ${clientId}`]
  })
}

async function callTool(
  client: Client,
  tools: readonly string[],
  name: string,
  args: Record<string, unknown>,
): Promise<string> {
  if (!tools.includes(name)) throw new Error(`there is no tool ${name} among ${tools.join(', ')}`)
  const result = await client.callTool({ name, arguments: args })
  if (result.isError) throw new Error(textOf(result))
  return textOf(result)
}

const eventsWithinMs = 15_000
const quietMs = 1500

/** Polls until each method has its answers and nothing new came for a while. */
async function awaitEvents(
  fetch: ScriptedAgent['fetch'],
  origin: string,
  token: string,
  clientId: string,
  made: readonly { method: string; least: number }[],
): Promise<TrailEvent[]> {
  const deadline = Date.now() + eventsWithinMs
  let events: TrailEvent[] = []
  let changed = Date.now()
  while (Date.now() < deadline) {
    const query = `search=${encodeURIComponent(clientId)}&span-last-hours=1&per-page=200`
    const answer = await fetch(`${origin}/api/v1/workload-events?${query}`, {
      headers: { authorization: `Bearer ${token}` },
    })
    if (answer.status !== 200) throw new Error(`the events could not be read: HTTP ${answer.status}`)
    const { entities } = (await answer.json()) as { entities: TrailEvent[] }
    if (entities.length !== events.length) changed = Date.now()
    events = entities
    const complete = made.every(({ method, least }) => answersOf(events, method) >= least)
    if (complete && Date.now() - changed > quietMs) return events
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
  const seen = made
    .map(({ method, least }) => `${answersOf(events, method)} of ${least} ${method}`)
    .join(', ')
  throw new Error(`after ${eventsWithinMs / 1000} s only ${seen} have arrived`)
}

const answersOf = (events: readonly TrailEvent[], method: string): number =>
  events.filter(
    ({ meta, application }) => meta.eventType === 'mcp.response' && application.mcp.mcpMethod === method,
  ).length
