import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '../../shared/faults.ts'
import { runChild } from '../../shared/ipc/child.ts'

/** Takes its time for each configuration, does not take one of 666 bytes, and tells what is in force. */
runChild('sync', 'test', async (context) => {
  let { spoolMaxBytes } = context.config
  await sleep(200)
  context.stats({ spoolMaxBytes })
  return {
    reconfigure: async (next) => {
      const before = spoolMaxBytes
      await sleep(next.spoolMaxBytes === 2 ? 100 : 1)
      if (next.spoolMaxBytes === 666) throw new Fault('config.invalid', { detail: 'no' })
      ;({ spoolMaxBytes } = next)
      context.stats({ spoolMaxBytes, before })
    },
    drain: async () => 0,
  }
})
