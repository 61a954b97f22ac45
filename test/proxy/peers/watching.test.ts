import t from 'tap'
import { proves } from '../../requirements.ts'
import { ask, open, toldOf } from '../store/gateways.ts'
import { startKeeper } from '../store/keeper.ts'
import { startWorkers } from './workers.ts'

const uri = 'note://a'

t.test('without a store: what a killed worker’s sessions watched is watched by another one', async (t) => {
  proves(t, 'SESSION-12')
  const server = await startKeeper()
  const workers = await startWorkers({ servers: [{ prefix: 'a', url: server.url }] })
  t.teardown(async () => {
    await workers.close()
    await server.close()
  })
  const first = await workers.start()
  const second = await workers.start()
  const session = await open(first)
  t.same((await ask(first, session, 'resources/subscribe', { uri })).result, {})
  t.same((await ask(first, session, 'resources/subscribe', { uri: 'note://b' })).result, {})
  t.same((await ask(first, session, 'resources/unsubscribe', { uri: 'note://b' })).result, {})
  await first.kill()
  const third = await workers.start()
  await second.kill()
  await ask(third, session, 'tools/list')
  t.match(await toldOf(third, session), { params: { uri } }, 'nobody listened for a while')
  await server.until(() => server.update(uri) === 1)
  t.match(await toldOf(third, session), { params: { uri } })
  t.same([...server.sessions.values()].at(-1)?.watched, [uri], 'what was given up stays so')
})
