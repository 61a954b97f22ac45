import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseOptions } from './options.ts'
import { Problem } from './problem.ts'
import { readyText } from './ready-text.ts'
import { Interrupted, lastLines, startWorld, type World } from './world.ts'

/** `npm start`: the whole appliance on loopback, until Ctrl-C. Exit code 2 where the person has to change something. */
const root = fileURLToPath(new URL('../..', import.meta.url))

const interrupt = new AbortController()
const interrupted = new Promise<void>((done) => interrupt.signal.addEventListener('abort', () => done()))
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (interrupt.signal.aborted) return
    console.log('\nstopping ...')
    interrupt.abort()
  })
}

/** Until Ctrl-C, or until a process ends by itself: then what it said last, and exit code 1. */
async function stay(world: World): Promise<number> {
  console.log(readyText(world, root))
  const exit = await Promise.race([interrupted, world.died])
  if (!exit) return 0
  console.error(`\n${exit.name} ended unexpectedly (${exit.signal ?? `exit code ${exit.code}`}).`)
  const running = world.processes.get(exit.name)
  if (running) console.error(lastLines(running))
  return 1
}

try {
  const options = parseOptions(process.argv.slice(2), process.env, root, resolve)
  console.log('starting the control plane, the sample servers, the agent controller and the gateway ...')
  const world = await startWorld({ ...options, signal: interrupt.signal })
  process.exitCode = await stay(world)
  await world.stop()
  console.log('stopped')
} catch (error) {
  if (error instanceof Interrupted) console.log('stopped')
  else {
    console.error(`\n${error instanceof Error ? error.message : error}`)
    process.exitCode = error instanceof Problem ? 2 : 1
  }
}
