import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'

const everyMs = 2_000
/** Well under the time that the unit has for its start, so that we end by ourselves and say why. */
const longestMs = 60_000

export interface StoreWait {
  /** Throws Fault `session.store` where the store is away, and another where no wait will help. */
  readonly check: () => Promise<void>
  readonly clock: Clock
  /** Nobody wants it any more: resolves. */
  readonly signal: AbortSignal
  readonly log: Logger
}

/**
 * Waits for a session store that is away at the start, as after a power cut, where all machines come up at once. Throws
 * its last fault after a minute; a start that is tried again does not come so often that systemd gives it up.
 */
export async function waitForStore({ check, clock, signal, log }: StoreWait): Promise<void> {
  const end = clock.now() + longestMs
  for (;;) {
    const fault = await check().then(
      () => undefined,
      (error: unknown) => Fault.from(error),
    )
    if (!fault || signal.aborted) return
    if (fault.code !== 'session.store' || clock.now() + everyMs > end) throw fault
    log.warn({ code: fault.code, detail: fault.detail, waitMs: everyMs }, 'waits for the session store')
    await clock.sleep(everyMs, signal).catch(() => {})
  }
}
