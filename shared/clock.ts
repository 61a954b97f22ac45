/** Time as an argument, so that a test can hold it still or move it. All values are milliseconds. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch. */
  now(): number
  /** Resolves after `ms`, or 24 days, or rejects with the signal's reason when it aborts first. Does not keep a process alive. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** Node.js turns what is longer into 1 ms. */
const longestTimerMs = 2 ** 31 - 1

export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const onAbort = (): void => {
        clearTimeout(timer)
        reject(signal?.reason)
      }
      const timer = setTimeout(
        () => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        },
        Math.min(ms, longestTimerMs),
      )
      timer.unref()
      signal?.addEventListener('abort', onAbort, { once: true })
    }),
}
