import { Fault } from '../../../../shared/faults.ts'

/** Aborts with `upstream.timeout` after `ms`. Does not keep the process alive. */
export function deadline(ms: number): AbortSignal {
  const controller = new AbortController()
  setTimeout(() => controller.abort(new Fault('upstream.timeout')), ms).unref()
  return controller.signal
}

/** Waits for shared work, but no longer than this caller's own signal; the work itself goes on. */
export function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) return Promise.reject(signal.reason)
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
