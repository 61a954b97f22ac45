import { Fault } from '../../../../shared/faults.ts'
import { backoffMs } from '../../../../shared/retry.ts'
import { pause, type Stop } from '../stop.ts'
import { Unsent } from './exchange.ts'

/** Methods that change nothing at a server, so that asking twice is asking once. */
const safe: ReadonlySet<string> = new Set([
  'server/discover',
  'tools/list',
  'prompts/list',
  'resources/list',
  'resources/templates/list',
  'resources/read',
  'prompts/get',
  'completion/complete',
])

const maxRetries = 2
const backoff = { baseMs: 150, capMs: 1_000, floorMs: 50 }

/**
 * Runs again where the server could not be reached and can not have acted: nothing of the request was sent, or its method
 * changes nothing. `begun` says whether the request itself, not only what precedes it, was on its way.
 */
export async function retrying<T>(
  { method, stop }: { method: string; stop: Stop },
  run: () => Promise<T>,
  begun: () => boolean,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await run()
    } catch (error) {
      const away = error instanceof Fault && error.code === 'upstream.unreachable'
      const harmless = error instanceof Unsent || safe.has(method) || !begun()
      if (!away || !harmless || attempt === maxRetries || stop.reason) throw error
    }
    await pause(backoffMs(attempt, backoff), stop)
  }
}
