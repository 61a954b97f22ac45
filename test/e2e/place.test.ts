import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parseDocument, type YAMLSeq } from 'yaml'
import { proves } from '../requirements.ts'
import { botClient, createBot, weather } from '../rig/bot.ts'
import { type Place, writeMmdb } from '../rig/mmdb.ts'
import { startRig } from '../rig/world.ts'

/**
 * Conditions on place, from the address of a TCP connection to the decision: front tells proxy by the PROXY header,
 * proxy and control plane look it up in the operator's database, each for itself.
 */
t.setTimeout(240_000)
const dir = mkdtempSync(join(tmpdir(), 'place-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))
const database = join(dir, 'places.mmdb')
/** As an updater does it: the new file takes the place of the former. */
const supply = (places: readonly Place[]): void => {
  writeFileSync(`${database}.new`, writeMmdb(places))
  renameSync(`${database}.new`, database)
}
const [berlin, boston] = ['127.0.0.5', '127.0.0.6'] as const
const place = (address: string, country: string): Place => ({ network: `${address}/32`, country })
supply([place(berlin, 'DE'), place(boston, 'US')])

const client = await botClient('bot')
const rig = await startRig({
  edit: (yaml) => {
    const document = parseDocument(yaml)
    const add = (list: string, entry: unknown): void =>
      (document.get(list) as YAMLSeq).add(document.createNode(entry))
    document.set('authorizationServer', document.createNode({ clients: [client] }))
    document.set('geoip', document.createNode({ database }))
    const germany = { id: 'germany', type: 'AembitGeoIPCondition', locations: [{ alpha2Code: 'DE' }] }
    document.set('accessConditions', document.createNode([germany]))
    add('clientWorkloads', { id: 'bots', identities: [{ type: 'oauthClientId', value: 'bot' }] })
    add('accessPolicies', { id: 'bots-in', client: 'bots', server: 'gateway', subjects: ['client'] })
    add('accessPolicies', {
      id: 'bots-weather',
      server: 'weather',
      subjects: ['client'],
      accessConditions: ['germany'],
      credentialProvider: 'weather-key',
    })
    return document.toString({ lineWidth: 0 })
  },
  adapt: (launch) =>
    launch.name === 'gateway'
      ? { ...launch, env: { ...launch.env, AEMBIT_GEOIP_DATABASE_PATH: database } }
      : launch,
})
t.teardown(() => rig.end())
const bots = [berlin, boston].map((address) => createBot(rig, address))
t.teardown(() => Promise.all(bots.map((bot) => bot.close())))
const { token } = await bots[0]!.tokenOf()
const [inBerlin, inBoston] = await Promise.all(bots.map((bot) => bot.connect(token)))
const names = async (who = inBerlin!): Promise<string[]> =>
  (await who.listTools()).tools.map(({ name }) => name)
const known = 'weather_get_weather'

await t.test('one token, two addresses: where the connection comes from decides', async (t) => {
  proves(t, 'POLICY-PLACE-01')
  t.match(await weather(inBerlin!), /^Basel: /)
  t.match(await weather(inBoston!), /^refused: .*Policy does not allow this/)
  t.ok((await names(inBerlin)).includes(known))
  t.notOk((await names(inBoston)).includes(known), 'nor does it see the tool')
  t.match(await weather(inBerlin!), /^Basel: /, 'what was decided for the one is not kept for the other')
  t.match(await weather(inBoston!), /^refused: /)
  const spoofed = createBot(rig, boston)
  t.teardown(() => spoofed.close())
  const client = await spoofed.connect(token, { 'x-forwarded-for': berlin, forwarded: `for=${berlin}` })
  t.match(await weather(client), /^refused: /, 'what a client says of its address counts for nothing')
})

await t.test('a new database file counts without a restart', async (t) => {
  proves(t, 'POLICY-PLACE-02')
  supply([place(berlin, 'US'), place(boston, 'DE')])
  const until = async (who = inBerlin!, wanted: RegExp): Promise<void> => {
    while (!wanted.test(await weather(who))) await new Promise((resolve) => setTimeout(resolve, 100))
  }
  await until(inBoston, /^Basel: /)
  await until(inBerlin, /^refused: /)
  t.ok((await names(inBoston)).includes(known))

  // A file that is none: the former one stays in force.
  writeFileSync(`${database}.new`, 'half of a download')
  renameSync(`${database}.new`, database)
  for (const name of ['gateway', 'control-plane']) {
    const log = rig.processes.get(name)!.log.path
    while (!readFileSync(log, 'utf8').includes('GeoIP database is not readable'))
      await new Promise((resolve) => setTimeout(resolve, 100))
  }
  t.match(await weather(inBoston!), /^Basel: /)
  t.match(await weather(inBerlin!), /^refused: /)
})
