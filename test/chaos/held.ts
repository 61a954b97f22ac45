import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/** What each process of the gateway has to be started with, so that it says what it holds. */
export const heldOptions = (dir: string): string => {
  const probe = new URL(`./held-probe.ts?dir=${encodeURIComponent(dir)}`, import.meta.url)
  return `--expose-gc --import=${probe.href}`
}

const withinMs = 30_000

/**
 * What a process holds after a collection, bytes. Resident memory says how much was needed at once and is given back when
 * the allocator likes; what is held is what leaks.
 */
export async function heldBy(pid: number, dir: string): Promise<number> {
  const path = join(dir, String(pid))
  rmSync(path, { force: true })
  process.kill(pid, 'SIGUSR2')
  const deadline = Date.now() + withinMs
  for (;;) {
    const text = read(path)
    if (text !== undefined) return Number(text)
    if (Date.now() > deadline) throw new Error(`process ${pid} did not say what it holds`)
    await pause(10)
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined // Not written yet.
  }
}
