import { join } from 'node:path'
import { decodeProtectedHeader } from 'jose'
import t from 'tap'
import { parseDocument, type YAMLSeq } from 'yaml'
import { openDatabase } from '../../services/control-plane/store/database.ts'
import { proves } from '../requirements.ts'
import { botClient, createBot, weather } from '../rig/bot.ts'
import { startRig } from '../rig/world.ts'

/** An agent without a person through the whole appliance, and what gateways make of keys that are replaced. */
t.setTimeout(240_000)
const clients = await Promise.all(['bot', 'idle'].map(botClient))

function edit(yaml: string): string {
  const document = parseDocument(yaml)
  const add = (list: string, entry: unknown): void =>
    (document.get(list) as YAMLSeq).add(document.createNode(entry))
  document.set('authorizationServer', document.createNode({ clients }))
  add('clientWorkloads', { id: 'bots', identities: [{ type: 'oauthClientId', value: 'bot' }] })
  add('accessPolicies', { id: 'bots-in', client: 'bots', server: 'gateway', subjects: ['client'] })
  for (const [server, credentialProvider] of [
    ['weather', 'weather-key'],
    ['notes', 'notes-account'],
  ]) {
    add('accessPolicies', { id: `bots-${server}`, server, subjects: ['client'], credentialProvider })
  }
  return document.toString({ lineWidth: 0 })
}

const rig = await startRig({ edit })
t.teardown(() => rig.end())
const { tokenOf, connect, close } = createBot(rig)
t.teardown(close)

const first = await tokenOf()
const bot = await connect(first.token)

await t.test('a tool behind a shared key, listed and called', async (t) => {
  proves(t, 'CRED-40')
  t.equal(first.status, 200)
  const names = (await bot.listTools()).tools.map(({ name }) => name)
  t.ok(names.includes('weather_get_weather'), names.join())
  t.notOk(
    names.some((name) => name.startsWith('everything_')),
    'a policy for people is none for it',
  )
  t.match(await weather(bot), /^Basel: /)
  const [event] = await rig.events('get_weather', (events) => events.length > 0)
  t.equal(event?.application?.mcp?.userId, 'client:bot')
})

await t.test("a person's own account is never given to it, and no page is offered", async (t) => {
  proves(t, 'CRED-41')
  const outcome = await bot.callTool({ name: 'notes_list_notes', arguments: {} }).then(
    (result) => JSON.stringify(result),
    (error: unknown) => String(error),
  )
  t.notMatch(outcome, /connections\//)
  const found = (await rig.admin('GET', '/api/v1/authorization-events?server=notes')) as {
    entities: { outcome: { reason?: string }; environment: { userId?: string } }[]
  }
  t.match(found.entities[0], {
    outcome: { reason: 'person_needed' },
    environment: { userId: 'client:bot' },
  })
  t.equal((await tokenOf('idle')).status, 400, 'a client that no policy names gets no token at all')
})

await t.test(
  'keys overlap: tokens of the former key work at running gateways, and those of the next',
  async (t) => {
    proves(t, 'KEYS-01')
    const keys = async (method: 'GET' | 'POST', path = '', body?: unknown) =>
      (
        (await rig.admin(method, `/api/v1/signing-keys${path}`, body)) as {
          entities: { kid: string; state: string }[]
        }
      ).entities
    const before = decodeProtectedHeader(first.token).kid
    const announced = await keys('POST', '/rotate', {})
    t.ok(announced.some(({ state }) => state === 'next'))
    t.equal(decodeProtectedHeader((await tokenOf()).token).kid, before, 'the successor does not sign yet')
    // As if the time had passed in which every gateway and client hears of the successors.
    const db = openDatabase(join(rig.state.dir, 'control-plane', 'control-plane.db'))
    db.exec('UPDATE signing_key SET created_at = created_at - 3600000 WHERE pending = 1')
    db.close()
    const taken = await keys('POST', '/rotate', {})
    t.notOk(taken.some(({ state }) => state === 'next'))
    t.equal(taken.find(({ kid }) => kid === before)?.state, 'retired')
    const second = await tokenOf()
    t.not(decodeProtectedHeader(second.token).kid, before)
    t.match(await weather(await connect(second.token)), /^Basel: /)
    t.match(await weather(bot), /^Basel: /, 'the session under the former key goes on')
    t.match(await weather(await connect(first.token)), /^Basel: /, 'and its token opens another')

    await keys('POST', '/rotate', { compromised: true })
    let refused = await weather(bot)
    while (!refused.startsWith('refused')) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      refused = await weather(bot)
    }
    await t.rejects(connect(second.token), 'what the key in use signed is refused as well')
    t.match(await weather(await connect((await tokenOf()).token)), /^Basel: /, 'a new token works')
    t.match(
      await keys('GET'),
      [{ state: 'active' }, { state: 'active' }],
      'nothing is left of the former keys',
    )
  },
)
