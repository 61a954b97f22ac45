import t from 'tap'
import { decideGateway, decideServer, decideTool, explain, indexSnapshot } from '../../../shared/policy.ts'
import type { Snapshot } from '../../../shared/wire/snapshot.ts'
import { createWorldMaker } from './worlds.ts'

/**
 * Random policies, people and tools. What must hold of every decision, whatever they are: listing and calling agree on
 * everything but what they are configured to differ in, nothing throws, and what explains is what decides.
 */
const seeds = (process.env.POLICY_FUZZ_SEEDS ?? '20261123').split(',').map(Number)
const rounds = Number(process.env.POLICY_FUZZ_ROUNDS ?? 300)

for (const seed of seeds) {
  t.test(`listing and calling agree, seed ${seed}`, async (t) => {
    const make = createWorldMaker(seed)
    const seen = { visible: 0, hiddenYetCallable: 0, visibleNotCallable: 0, decisions: 0, denied: 0 }
    const wrong: unknown[] = []
    for (let round = 0; round < rounds && wrong.length < 5; round++) {
      const snapshot = make.snapshot()
      const index = indexSnapshot(snapshot)
      for (let turn = 0; turn < 10; turn++) {
        const principal = make.principal()
        const circumstances = make.circumstances()
        const tool = make.tool()
        const args = make.args()
        for (const server of snapshot.servers) {
          const onServer = decideServer(index, principal, server.id, circumstances)
          const visible = { control: 'visible', tool } as const
          const invocable = { control: 'invocable', tool, args } as const
          const see = decideTool(index, onServer, principal, server, visible, circumstances)
          const call = decideTool(index, onServer, principal, server, invocable, circumstances)
          seen.decisions += 3
          const tell = (what: string) => wrong.push({ what, seed, round, turn, see, call, onServer })

          if (!onServer.allow && (see.allow || call.allow)) tell('a tool of a server that is denied')
          // The one thing that may hide a tool that can be called is the visibility side of tool access control.
          if (call.allow && !see.allow && see.reason !== 'tool_hidden')
            tell(`callable, not listed: ${see.reason}`)
          // What may stop a tool that is listed: its invocation side, or a condition on the arguments of this call.
          if (see.allow && !call.allow) {
            const condition = call.rule?.startsWith('accessCondition:')
              ? snapshot.accessConditions?.find(({ id }) => `accessCondition:${id}` === call.rule)
              : undefined
            const onArgs = condition?.type === 'CelCondition' && condition.expression.includes('args')
            if (call.reason !== 'tool_blocked' && !onArgs) tell(`listed, not callable: ${call.reason}`)
            seen.visibleNotCallable++
          }
          if (call.allow && !see.allow) seen.hiddenYetCallable++
          if (see.allow) seen.visible++
          else seen.denied++
          // Without a control of its own and without conditions on arguments, seen is callable and callable is seen.
          if (plain(snapshot, onServer.policyId) && see.allow !== call.allow)
            tell('differ without a reason to')
          for (const decision of [onServer, see, call]) {
            if (decision.allow !== (decision.reason === 'allowed')) tell('allow and reason differ')
            if (decision.allow && decision.policyId === null) tell('allowed by no policy')
          }
          const told = explain(index, principal, { serverId: server.id, tool, args }, circumstances).decision
          const entered = decideGateway(index, principal, circumstances)
          const wanted = entered.allow ? call : entered
          if (told.reason !== wanted.reason || told.rule !== wanted.rule || told.policyId !== wanted.policyId)
            tell('explained otherwise than decided')
          const again = decideTool(index, onServer, principal, server, invocable, circumstances)
          if (JSON.stringify(again) !== JSON.stringify(call)) tell('the same question, another answer')
        }
      }
    }
    t.same(wrong, [])
    t.comment(JSON.stringify(seen))
    t.ok(seen.visible > 0 && seen.denied > 0, 'both answers came up')
    t.ok(seen.hiddenYetCallable > 0 && seen.visibleNotCallable > 0, 'both differences came up')
  })
}

/** Whether nothing of a policy makes a difference between seeing and calling. */
function plain({ policies, accessConditions = [] }: Snapshot, policyId: string | null): boolean {
  const policy = policies.find(({ id }) => id === policyId)
  if (!policy || (policy.contentSecurity ?? []).length > 0) return false
  return !(policy.accessConditions ?? []).some((id) =>
    accessConditions.some(
      (condition) =>
        condition.id === id && condition.type === 'CelCondition' && condition.expression.includes('args'),
    ),
  )
}
