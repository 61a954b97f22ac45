import { Fault } from '../../../shared/faults.ts'
import { runBatch } from '../batch.ts'
import type { Exchange } from '../exchange.ts'
import type { McpCore } from '../mcp/protocol/types.ts'
import type { Measures } from '../measures.ts'
import type { Run } from '../pipeline.ts'

export interface CoreDeps {
  readonly core: McpCore
  readonly measures: Measures
  /** Answers and records a no to one message. */
  readonly refuseOne: (x: Exchange, fault: Fault) => void
}

/** Decide, credential, relay and shape for each server involved: the MCP core's room. */
export function core({ core: handler, measures, refuseOne }: CoreDeps): Run {
  const handle = async (x: Exchange): Promise<void> => {
    x.outcome = await handler.handle(x)
    if (!x.reply.begun) throw new Fault('internal', { detail: 'the core answered nothing' })
  }
  return (x) => {
    if (!x.batch) return handle(x)
    return runBatch(x, async (member) => {
      const began = performance.now()
      try {
        await handle(member)
      } catch (error) {
        member.outcome = 'error'
        refuseOne(member, Fault.from(error))
      }
      measures.processed(member.message, member.outcome, performance.now() - began)
    })
  }
}
