import t from 'tap'
import type { McpCall } from '../../../services/proxy/mcp/protocol/types.ts'
import { proves } from '../../requirements.ts'
import { snapshot, token } from './fakes.ts'
import { rpc, startRig } from './rig.ts'

/** Each call lasts until it may no more; its answer says why it ended and what it was told before. */
const rig = await startRig({
  core: async (call: McpCall, { standing }) => {
    const versions: number[] = []
    const why = await new Promise<string>((resolve) => {
      standing!.follow(call, {
        changed: ({ snapshot: { version } }) => versions.push(version),
        ended: ({ code }) => resolve(code),
      })
      began.shift()?.()
    })
    const id = 'id' in call.message ? call.message.id : null
    call.reply.json(200, JSON.stringify({ jsonrpc: '2.0', id, result: { why, versions } }))
  },
})
t.teardown(() => rig.close())
const began: (() => void)[] = []

async function last(claims: Record<string, unknown> = {}) {
  const started = new Promise<void>((resolve) => began.push(resolve))
  const answer = rig.http1({ body: rpc('listen'), token: await token(claims) })
  await started
  return { end: answer.then(({ json }) => json.result as { why: string; versions: number[] }) }
}

t.test('a call that lasts is asked again whether it may', async (t) => {
  proves(t, 'MCP-NOTICE-06')
  const nowSecs = (): number => Math.floor(rig.clock.now() / 1000)
  const first = await last()
  await rig.give()
  await rig.give({ revocations: [{ subject: 'ann@corp.test', at: nowSecs() + 60 }] })
  const { why, versions } = await first.end
  t.equal(why, 'token.revoked')
  t.equal(versions.length, 1, 'a policy that still lets it in is only told')

  await rig.give()
  const denied = await last()
  await rig.give({ policies: [] })
  t.equal((await denied.end).why, 'policy.gateway_denied')

  await rig.give()
  const moved = await last()
  const { clientWorkloads } = snapshot(1)
  const elsewhere = { type: 'sourceIPAddress' as const, value: '192.0.2.0/24' }
  await rig.give({
    clientWorkloads: clientWorkloads.map((each) => ({
      ...each,
      identities: [...each.identities, elsewhere],
    })),
  })
  t.equal((await moved.end).why, 'policy.gateway_denied', 'from where it may be used changed')

  await rig.give()
  const distrusted = await last()
  const { gateway } = snapshot(1)
  await rig.give({ gateway: { ...gateway, audiences: [...gateway.audiences, 'https://other.test'] } })
  t.equal((await distrusted.end).why, 'listen.ended', 'the token has to be verified again')

  const expiring = await last()
  rig.clock.offset += 3_600_000
  t.equal((await expiring.end).why, 'token.expired')
})
