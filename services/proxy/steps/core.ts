import { Fault } from '../../../shared/faults.ts'
import type { McpCore } from '../mcp/protocol/types.ts'
import type { Run } from '../pipeline.ts'

export interface CoreDeps {
  readonly core: McpCore
}

/** Decide, credential, relay and shape for each server involved: the MCP core's room. */
export function core({ core: handler }: CoreDeps): Run {
  return async (x) => {
    x.outcome = await handler.handle(x)
    if (!x.reply.begun) throw new Fault('internal', { detail: 'the core answered nothing' })
  }
}
