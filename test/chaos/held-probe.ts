import { renameSync, writeFileSync } from 'node:fs'

/**
 * Loaded into the gateway's processes by NODE_OPTIONS, with --expose-gc: at SIGUSR2 it collects garbage and writes what is
 * held after that, bytes in the heap and beside it, to `<dir>/<pid>`.
 */
const dir = new URL(import.meta.url).searchParams.get('dir')
// The supervisor has a use of its own for that signal.
const supervisor = /services[\\/]supervisor[\\/]\w+\.ts$/.test(process.argv[1] ?? '')

if (dir && !supervisor) {
  process.on('SIGUSR2', async () => {
    // Twice, with a turn between: what the first collection finalizes may have held more.
    globalThis.gc?.()
    await new Promise((resolve) => setImmediate(resolve))
    globalThis.gc?.()
    const { heapUsed, external } = process.memoryUsage()
    const path = `${dir}/${process.pid}`
    writeFileSync(`${path}.new`, String(heapUsed + external))
    renameSync(`${path}.new`, path)
  })
}
