import { readFileSync } from 'node:fs'
import t from 'tap'
import { Agent, buildConnector, fetch as undiciFetch } from 'undici'
import { parseDocument, type YAMLSeq } from 'yaml'
import type { Launch } from '../../installer/quickstart/process.ts'
import { proves } from '../requirements.ts'
import { startAccountServer } from '../rig/account-server.ts'
import { startSecondGateway } from '../rig/second-gateway.ts'
import type { IssuedToken } from '../rig/token-ledger.ts'
import { startRig, type users } from '../rig/world.ts'

/**
 * Two people with accounts of their own at one OAuth server, through two gateways of three workers each: a token that
 * ends while 50 calls of each are under way is renewed once, and nobody ever gets in as somebody else.
 */
t.setTimeout(240_000)
type Name = keyof typeof users

const names: readonly Name[] = ['ann', 'bob']
const tokenSecs = 10
const upstream = await startAccountServer(tokenSecs)
t.teardown(() => upstream.close())

let gatewayLaunch: Launch | undefined
const rig = await startRig({
  workers: 3,
  edit: (yaml) => {
    const document = parseDocument(yaml)
    const add = (list: string, entry: unknown): void =>
      (document.get(list) as YAMLSeq).add(document.createNode(entry))
    const allowedNetworks = ['127.0.0.0/8']
    add('serverWorkloads', { id: 'accounts', name: 'Accounts', url: upstream.url, allowedNetworks })
    add('credentialProviders', { id: 'accounts', type: 'mcp-user-based-access-token', allowedNetworks })
    add('accessPolicies', {
      id: 'use-accounts',
      server: 'accounts',
      trustProviders: ['local-users'],
      credentialProvider: 'accounts',
    })
    return document.toString({ lineWidth: 0 })
  },
  adapt: (launch) => {
    if (launch.name === 'gateway') gatewayLaunch = launch
    return launch
  },
})
t.teardown(() => rig.end())
const second = await startSecondGateway(gatewayLaunch!, rig.caPath!)
t.teardown(() => second.stop())

/** A pool of connections each, so that calls land on every worker. */
const pools = [Number(new URL(rig.url).port), second.port].map((port) => {
  const connect = buildConnector({ ca: readFileSync(rig.caPath!) })
  return new Agent({
    connections: 60,
    pipelining: 1,
    connect: (options, callback) => connect({ ...options, port: String(port) }, callback),
  })
})
t.teardown(() => Promise.all(pools.map((pool) => pool.destroy())))

const bearers = new Map<Name, string>()
for (const name of names) {
  const agent = rig.agent(name)
  await agent.connect()
  bearers.set(name, agent.provider.stored?.access_token ?? '')
}

const version = '2026-07-28'
let lastId = 0
/** One call of a tool without a session: the account that the server saw, or what went wrong. */
async function call(name: Name, pool: number, more: object = {}): Promise<{ text: string; result: unknown }> {
  const response = await undiciFetch(rig.url, {
    method: 'POST',
    dispatcher: pools[pool]!,
    headers: {
      authorization: `Bearer ${bearers.get(name)}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': version,
      'mcp-method': 'tools/call',
      'mcp-name': 'accounts_whoami',
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: ++lastId,
      method: 'tools/call',
      params: {
        name: 'accounts_whoami',
        arguments: { caller: `${name}-notes` },
        ...more,
        _meta: {
          'io.modelcontextprotocol/protocolVersion': version,
          'io.modelcontextprotocol/clientCapabilities': { elicitation: { url: {} } },
          'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
        },
      },
    }),
  })
  const body = await response.text()
  const message = JSON.parse(/^data: (.*)$/m.exec(body)?.[1] ?? body) as {
    result?: { content?: { text: string }[]; inputRequests?: unknown; requestState?: string }
    error?: unknown
  }
  const text = message.result?.content?.[0]?.text ?? JSON.stringify(message.error ?? message.result)
  return { text, result: message.result }
}

/** `each` calls of each person at once, over both gateways; the answers that are not the person's own account. */
async function burst(each: number): Promise<string[]> {
  const all = names.flatMap((name) =>
    Array.from({ length: each }, async (_, at) => {
      const { text } = await call(name, at % 2)
      return text === `${name}-notes` ? undefined : `${name}: ${text}`
    }),
  )
  return (await Promise.all(all)).filter((wrong): wrong is string => wrong !== undefined).slice(0, 3)
}
const refreshesOf = (name: Name): number =>
  upstream.refreshed.filter((account) => account === `${name}-notes`).length
const strangers = (): unknown[] => upstream.calls.filter(({ caller, account }) => caller !== account)

await t.test(
  'who is not connected gets a link as a question, and the same call works on retry',
  async (t) => {
    for (const name of names) {
      const { result } = await call(name, 0)
      const asked = result as {
        resultType: string
        requestState: string
        inputRequests: Record<string, { params: { url: string } }>
      }
      t.equal(asked.resultType, 'input_required')
      const [[id, question]] = Object.entries(asked.inputRequests) as [[string, { params: { url: string } }]]
      const link = question.params.url
      t.notMatch(link, /token-|refresh/, 'the link carries no credential')
      const other = rig.agent(name === 'ann' ? 'bob' : 'ann')
      await other.connect()
      const refused = await other.browser.open(link)
      t.match(refused, { status: 403, title: /someone else/ }, 'not for the other person')
      const own = rig.agent(name)
      await own.connect()
      t.match((await own.followConsent(link)).title, /Connected/)
      const retry = { requestState: asked.requestState, inputResponses: { [id]: { action: 'accept' } } }
      t.equal((await call(name, 1, retry)).text, `${name}-notes`, 'at the other gateway, too')
    }
  },
)

await t.test('50 calls of each while the tokens are over at the server: one refresh each', async (t) => {
  upstream.tokenDelayMs = 300
  for (let round = 1; round <= 3; round++) {
    await burst(6)
    const before = names.map(refreshesOf)
    await upstream.expire()
    t.same(await burst(50), [], `round ${round}: none failed`)
    t.same(
      names.map((name, at) => refreshesOf(name) - before[at]!),
      [1, 1],
      `round ${round}: one refresh a person`,
    )
  }
  t.same(strangers(), [])
  t.same(upstream.failed, [])
})

await t.test('over the natural end of tokens: each is renewed once, near its end', async (t) => {
  proves(t, 'CRED-96')
  upstream.tokenDelayMs = 100
  await burst(2)
  const former = names.map((name) => upstream.ledger.of(`${name}-notes`).length - 1)
  /** Tokens of one person that no test ends early, oldest first. */
  const lived = (at: number): readonly IssuedToken[] =>
    upstream.ledger.of(`${names[at]}-notes`).slice(former[at])
  const wrong: string[] = []
  const deadline = Date.now() + 90_000
  while (names.some((_, at) => lived(at).length < 4) && Date.now() < deadline)
    wrong.push(...(await burst(50)))
  t.same(wrong, [], 'none failed')
  for (const [at, name] of names.entries()) {
    const tokens = lived(at)
    t.ok(tokens.length >= 4, `${name}: three tokens came to their end`)
    const expected = tokens.map((_, nth) => (nth < tokens.length - 1 ? 1 : 0))
    t.same(
      tokens.map(({ renewals }) => renewals.length),
      expected,
      `${name}: one refresh for each, none for the last`,
    )
    for (const { issuedAt, endsAt, renewals } of tokens) {
      for (const renewal of renewals)
        t.ok(renewal - issuedAt >= (endsAt - issuedAt) * 0.8, `${name}: after ${renewal - issuedAt} ms`)
    }
  }
  t.same(strangers(), [], 'nobody got in as somebody else')
  t.same(upstream.failed, [], 'no refresh token was used twice')
})

await t.test('a token endpoint that is down for a while costs nobody the connection', async (t) => {
  upstream.tokenStatus = 503
  await upstream.expire()
  const down = await burst(5)
  t.ok(down.length > 0, 'calls fail while it is down')
  t.notOk(down.join().includes('/connections/accounts'), 'and nobody is asked to connect again')
  upstream.tokenStatus = undefined
  const deadline = Date.now() + 60_000
  while ((await burst(1)).length > 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  t.same(await burst(20), [])
})

await t.test('access taken back at the server: a link to connect again, for that person alone', async (t) => {
  await upstream.revoke('ann-notes')
  await upstream.expire()
  const { result } = await call('ann', 0)
  t.match(result, { resultType: 'input_required' })
  t.match(JSON.stringify(result), /has ended/)
  t.equal((await call('bob', 1)).text, 'bob-notes')
  const log = readFileSync(`${rig.state.logs}/control-plane.log`, 'utf8')
  t.match(log, /invalid_grant/)
})
