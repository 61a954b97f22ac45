import { type Client, type Tool, UrlElicitationRequiredError } from '@modelcontextprotocol/client'
import type { ScriptedAgent } from '../../../installer/quickstart/agent.ts'
import { textOf } from '../../rig/world.ts'

export interface Scenario {
  readonly scenario: string
  /** Of the scenario's server. */
  readonly url: string
  readonly context: {
    readonly client_id?: string
    readonly client_secret?: string
    /** Calls that the scenario wants made. */
    readonly toolCalls?: readonly { name: string; arguments: Record<string, unknown> }[]
  }
}

const reachedWithinMs = 60_000
/** A person gives up as well. */
const maxConsents = 6

/**
 * What a user of the gateway would do with the scenario's server: list everything, call, read and get all of it, answer
 * what is asked, and connect the account where a link says so. Gives what was done; throws where a call did not end well.
 */
export async function play(agent: ScriptedAgent, id: string, { context }: Scenario): Promise<string[]> {
  const done: string[] = []
  let consents = 0
  const consent = async (url: string): Promise<void> => {
    if (++consents > maxConsents)
      throw new Error(`asked to consent ${maxConsents} times and still not let in`)
    const page = await agent.followConsent(url)
    done.push(`consent: ${page.title}`)
  }
  const client = await agent.connect({
    capabilities: { elicitation: { form: { applyDefaults: true }, url: {} }, sampling: {}, roots: {} },
  })
  client.setRequestHandler('elicitation/create', async ({ params }) => {
    if (params.mode === 'url') await consent(params.url)
    return params.mode === 'url' ? { action: 'accept' } : { action: 'accept', content: {} }
  })
  client.setRequestHandler('sampling/createMessage', async () => ({
    model: 'scripted',
    role: 'assistant',
    content: { type: 'text', text: 'sampled' },
  }))
  client.setRequestHandler('roots/list', async () => ({
    roots: [{ uri: 'file:///project', name: 'project' }],
  }))

  const own = (name: string): boolean => name.startsWith(`${id}_`)
  const call = async (name: string, args: Record<string, unknown>): Promise<void> => {
    for (;;) {
      try {
        const result = await client.callTool({ name, arguments: args })
        const link = result.isError && /https?:\/\/\S+\/connections\/\S+/.exec(textOf(result))?.[0]
        if (!link) {
          done.push(`call ${name}: ${result.isError ? 'error ' : ''}${textOf(result).slice(0, 100)}`)
          return
        }
        await consent(link)
      } catch (error) {
        if (!(error instanceof UrlElicitationRequiredError)) throw error
        for (const { url } of error.elicitations) await consent(url)
      }
    }
  }

  let tools = await listed(client, id)
  if (tools.some(({ name }) => name === `${id}_connect`)) {
    await call(`${id}_connect`, {})
    tools = await listed(client, id)
  }
  done.push(`tools: ${tools.map(({ name }) => name).join(', ')}`)
  const calls =
    context.toolCalls?.map((wanted) => ({ ...wanted, name: `${id}_${wanted.name}` })) ??
    tools.map(({ name, inputSchema }) => ({
      name,
      arguments: exampleOf(inputSchema, tools.find((other) => other.name !== name)?.inputSchema),
    }))
  for (const wanted of calls) if (own(wanted.name)) await call(wanted.name, wanted.arguments)
  const { resources } = await client.listResources().catch(() => ({ resources: [] }))
  for (const { uri } of resources) await client.readResource({ uri })
  const { prompts } = await client.listPrompts().catch(() => ({ prompts: [] }))
  for (const { name, arguments: wanted = [] } of prompts) {
    if (own(name)) {
      await client.getPrompt({
        name,
        arguments: Object.fromEntries(wanted.map((argument) => [argument.name, 'x'])),
      })
    }
  }
  return done
}

/**
 * The tools, when the gateway has the configuration that names this server and the server has said something: on a loaded
 * machine it may not in the time of a listing.
 */
async function listed(client: Client, id: string): Promise<Tool[]> {
  const deadline = Date.now() + reachedWithinMs
  for (;;) {
    // A modern client may keep a listing for its `ttlMs`, the one of the scenario before too.
    const { tools, _meta } = await client.listTools(undefined, { cacheMode: 'refresh' })
    const servers = (_meta?.['io.aembit/servers'] ?? []) as { server: string; outcome: string }[]
    const outcome = servers.find(({ server }) => server === id)?.outcome
    if (outcome !== undefined && outcome !== 'timeout') return tools
    if (Date.now() > deadline) throw new Error(`the gateway does not ${outcome ? 'reach' : 'know'} ${id}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** Arguments that fit a schema, as far as tools of the suite ask. `another`: for a tool that wants a schema told back. */
function exampleOf(schema: unknown, another: unknown): Record<string, unknown> {
  const { properties = {}, required = [] } = schema as {
    properties?: Record<string, { type?: string }>
    required?: string[]
  }
  const values: Record<string, unknown> = { number: 3, integer: 3, boolean: true, array: [], object: {} }
  return Object.fromEntries(
    Object.entries(properties)
      .filter(([name, { type }]) => name === 'schema' || required.includes(name) || type === 'string')
      .map(([name, { type = 'string' }]) => [
        name,
        name === 'schema' ? another : (values[type] ?? 'us-west1'),
      ]),
  )
}
