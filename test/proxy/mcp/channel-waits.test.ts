import { mock } from 'node:test'
import t from 'tap'
import { Channel } from '../../../services/proxy/mcp/notices/channel.ts'
import { noChanges } from '../../../services/proxy/mcp/protocol/changes.ts'
import type { ListenRequest } from '../../../services/proxy/mcp/upstream/listening.ts'
import type { Party } from '../../../services/proxy/mcp/upstream/request.ts'
import type { Upstreams } from '../../../services/proxy/mcp/upstream/upstreams.ts'
import { createLogger } from '../../../shared/log.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import { proves } from '../../requirements.ts'

/** How often a server is asked within the first ten minutes where each stream lasts so long before the server ends it. */
async function opensWithin10Minutes(lastsMs: number): Promise<number> {
  let now = 0
  let opens = 0
  const ends: { at: number; end: () => void }[] = []
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  const upstreams: Partial<Upstreams> = {
    session: () => undefined,
    listen: ({ onOpen }: ListenRequest) => {
      opens++
      onOpen({ honoured: noChanges })
      return new Promise((resolve) => ends.push({ at: now + lastsMs, end: () => resolve('ended') }))
    },
  }
  const channel = new Channel({ id: 'a', url: 'https://a.test' } as ServerWorkload, {} as Party, {
    upstreams: upstreams as Upstreams,
    clock: { now: () => now, sleep: async () => {} },
    log: createLogger('test', 'off'),
    random: () => 1 - Number.EPSILON,
    changed: () => {},
  })
  const member = { filter: noChanges, heard: () => {} }
  channel.join(member, {} as Party)
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  try {
    for (; now < 600_000; now += 100) {
      mock.timers.tick(100)
      for (const each of ends.splice(0)) {
        if (each.at <= now) each.end()
        else ends.push(each)
      }
      await turn()
    }
  } finally {
    void channel.leave(member)
    mock.timers.reset()
  }
  return opens
}

t.test('a server that ends every stream at once is asked less and less often', async (t) => {
  proves(t, 'MCP-NOTICE-08')
  const opens = await opensWithin10Minutes(0)
  t.ok(opens >= 10 && opens <= 20, `${opens} streams in ten minutes`)
})

t.test('one that ends its streams now and then is asked at once', async (t) => {
  const opens = await opensWithin10Minutes(20_000)
  t.ok(opens >= 28, `${opens} streams in ten minutes`)
})
