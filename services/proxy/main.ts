import { systemClock } from '../../shared/clock.ts'
import { runChild } from '../../shared/ipc/child.ts'
import { version } from '../../shared/version.ts'
import { Edge } from './edge.ts'
import { createMcpCore } from './mcp/core.ts'

runChild('proxy', version, async (context) => {
  const edge = new Edge(context, { clock: systemClock, createCore: createMcpCore })
  await edge.start()
  return {
    command(message) {
      switch (message.type) {
        case 'snapshot':
          void edge.snapshot(message.ref, message.confirmedAt)
          break
        case 'confirmed':
          edge.snapshots.confirm(message.version, message.confirmedAt)
          break
        default:
          message satisfies never
      }
    },
    drain: (deadlineMs) => edge.drain(deadlineMs),
  }
})
