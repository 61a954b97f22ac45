/**
 * Capped exponential backoff with full jitter: a wait drawn from [0, min(cap, base·2^attempt)], so that many
 * clients of one broken thing do not come back in step.
 */
export interface Backoff {
  readonly baseMs: number
  readonly capMs: number
  /** 0 ≤ random() < 1; injected by tests. */
  readonly random?: () => number
  /** The least wait, ms; 0 unless told. */
  readonly floorMs?: number
}

/** Milliseconds to wait before try number `attempt` + 1 (attempt counts the failures so far, from 0). */
export function backoffMs(
  attempt: number,
  { baseMs, capMs, random = Math.random, floorMs = 0 }: Backoff,
): number {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 30))
  return Math.max(floorMs, Math.floor(random() * ceiling))
}
