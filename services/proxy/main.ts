import { systemClock } from '../../shared/clock.ts'
import type { ValkeySettings } from '../../shared/config/valkey-url.ts'
import { runChild } from '../../shared/ipc/child.ts'
import { version } from '../../shared/version.ts'
import { Edge } from './edge.ts'
import { createMcpCore } from './mcp/core.ts'

runChild('proxy', version, async (context) => {
  const { AEMBIT_VALKEY: valkey } = process.env
  const edge = new Edge(context, {
    clock: systemClock,
    createCore: createMcpCore,
    // From the supervisor, which has checked it.
    ...(valkey === undefined ? {} : { valkey: JSON.parse(valkey) as ValkeySettings }),
  })
  delete process.env.AEMBIT_VALKEY
  await edge.start()
  return {
    successionPath: context.config.successionPath,
    command(message) {
      switch (message.type) {
        case 'snapshot':
          void edge.snapshot(message.ref, message.confirmedAt)
          break
        case 'confirmed':
          edge.snapshots.confirm(message.version, message.confirmedAt)
          break
        case 'retire':
          edge.retire(message.front)
          break
        case 'peers':
          void edge.meet(message.peers)
          break
        default:
          message satisfies never
      }
    },
    orphaned: () => edge.retire(),
    drain: (deadlineMs) => edge.drain(deadlineMs),
  }
})
