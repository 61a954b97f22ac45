import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

/** Longer than the start of a whole gateway on a busy machine; policy is not renewed meanwhile. */
const aloneMs = 10_000
const lookEveryMs = 50

/**
 * For a process whose supervisor is gone: resolves when another one serves, as the file at `path` says something else
 * than it does now, or when it has waited for long enough.
 */
export async function succeeded(path: string, limitMs = aloneMs): Promise<void> {
  const name = (): Promise<string> => readFile(path, 'utf8').catch(() => '')
  const before = await name()
  for (const end = performance.now() + limitMs; performance.now() < end; ) {
    await sleep(lookEveryMs)
    if ((await name()) !== before) return
  }
}
