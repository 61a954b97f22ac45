import { readFileSync } from 'node:fs'
import t from 'tap'
import { Agent, fetch as undiciFetch } from 'undici'
import { parseDocument, type YAMLSeq } from 'yaml'
import { proves } from '../requirements.ts'
import { startAccountServer } from '../rig/account-server.ts'
import { startRig, type users } from '../rig/world.ts'

/** A server whose account is not connected: its tools stay listed, the call answers with the link, and works on retry. */
t.setTimeout(240_000)
const upstream = await startAccountServer(300)
t.teardown(() => upstream.close())
const rig = await startRig({
  edit: (yaml) => {
    const document = parseDocument(yaml)
    const add = (list: string, entry: unknown): void =>
      (document.get(list) as YAMLSeq).add(document.createNode(entry))
    const allowedNetworks = ['127.0.0.0/8']
    const server = { id: 'accounts', name: 'Accounts', url: upstream.url, allowedNetworks }
    add('serverWorkloads', { ...server, publicTools: true })
    add('credentialProviders', { id: 'accounts', type: 'mcp-user-based-access-token', allowedNetworks })
    add('accessPolicies', {
      id: 'use-accounts',
      server: 'accounts',
      trustProviders: ['local-users'],
      credentialProvider: 'accounts',
    })
    return document.toString({ lineWidth: 0 })
  },
})
t.teardown(() => rig.end())
const dispatcher = new Agent({ connect: { ca: readFileSync(rig.caPath!) } })
t.teardown(() => dispatcher.destroy())

type Name = keyof typeof users
type Message = { result?: Record<string, unknown>; error?: { code: number; data?: unknown } }

async function client(name: Name, capabilities: object, modern: boolean) {
  const agent = rig.agent(name)
  await agent.connect()
  const meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': capabilities,
    'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
  }
  let session: string | undefined
  const post = async (method: string, params: Record<string, unknown> = {}): Promise<Message> => {
    const response = await undiciFetch(rig.url, {
      method: 'POST',
      dispatcher,
      headers: {
        authorization: `Bearer ${agent.provider.stored?.access_token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...(modern
          ? {
              'mcp-protocol-version': '2026-07-28',
              'mcp-method': method,
              ...(typeof params.name === 'string' ? { 'mcp-name': params.name } : {}),
            }
          : { ...(session === undefined ? {} : { 'mcp-session-id': session }) }),
      },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method,
        params: modern ? { ...params, _meta: meta } : params,
      }),
    })
    session ??= response.headers.get('mcp-session-id') ?? undefined
    const body = await response.text()
    const events = [...body.matchAll(/^data: (\{.*)$/gm)].map(([, data]) => JSON.parse(data!) as Message)
    return events.find(({ result, error }) => result ?? error) ?? (JSON.parse(body) as Message)
  }
  if (!modern) {
    const clientInfo = { name: 'test', version: '1' }
    await post('initialize', { protocolVersion: '2025-11-25', capabilities, clientInfo })
  }
  const tools = async (): Promise<string[]> =>
    ((await post('tools/list')).result!.tools as { name: string }[])
      .map((tool) => tool.name)
      .filter((tool) => tool.startsWith('accounts_'))
  const call = (more: Record<string, unknown> = {}) =>
    post('tools/call', { name: 'accounts_whoami', arguments: { caller: `${name}-notes` }, ...more })
  const connect = async (link: string): Promise<void> => {
    const { title } = await agent.followConsent(link)
    if (!/Connected/.test(title)) throw new Error(title)
  }
  const disconnect = async (): Promise<void> => {
    await upstream.revoke(`${name}-notes`)
    await upstream.expire()
  }
  return { tools, call, connect, disconnect }
}
const url = { elicitation: { url: {} } }
const account = (name: Name) => ({ content: [{ text: `${name}-notes` }] })

await t.test('a session-based client that can open links', async (t) => {
  proves(t, 'CRED-03')
  const ann = await client('ann', url, false)
  t.same(await ann.tools(), ['accounts_connect'], 'nobody has asked the server so far')
  const { error } = await ann.call()
  t.equal(error?.code, -32042)
  const data = error!.data as { elicitations: [{ url: string }] }
  await ann.connect(data.elicitations[0].url)
  t.match((await ann.call()).result, account('ann'))
  t.same(await ann.tools(), ['accounts_whoami'])
})

await t.test(
  'a session-based client that can not: the link is in the result, the tools are listed',
  async (t) => {
    proves(t, 'CRED-42')
    const bob = await client('bob', {}, false)
    t.same(await bob.tools(), ['accounts_whoami'], 'as Ann was listed them')
    const { result } = await bob.call()
    t.equal(result?.isError, true)
    const link = /https?:\/\/\S+ticket=[\w-]+/.exec(JSON.stringify(result))?.[0]
    await bob.connect(link!)
    t.match((await bob.call()).result, account('bob'))
  },
)

await t.test('a stateless client whose connection ended', async (t) => {
  proves(t, 'CRED-13')
  const bob = await client('bob', url, true)
  t.match((await bob.call()).result, account('bob'))
  await bob.disconnect()
  t.same(await bob.tools(), ['accounts_whoami'])
  const { result } = await bob.call()
  t.equal(result?.resultType, 'input_required')
  const questions = Object.entries(result!.inputRequests as Record<string, { params: { url: string } }>)
  const [[id, question]] = questions as [[string, { params: { url: string } }]]
  await bob.connect(question.params.url)
  const retry = { requestState: result!.requestState, inputResponses: { [id]: { action: 'accept' } } }
  t.match((await bob.call(retry)).result, account('bob'))
})
