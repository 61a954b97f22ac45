import { randomInt } from 'node:crypto'
import { bindTcp } from '../../services/supervisor/listeners.ts'

const given = new Set<number>()

/**
 * A port that is free, another one each time. From below the range that the kernel hands out by itself: a server that is
 * started on it later, or stopped and started again, does not find it taken by some connection.
 */
export function freePort(): number {
  for (;;) {
    const port = randomInt(10_240, 32_768)
    if (given.has(port)) continue
    given.add(port)
    try {
      bindTcp('127.0.0.1', port, 'TEST').close()
      return port
    } catch {
      // Somebody listens there.
    }
  }
}
