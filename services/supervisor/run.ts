import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { type Env, formatProblems, invalidConfigExit } from '../../shared/config/env.ts'
import { Fault } from '../../shared/faults.ts'
import { createLogger } from '../../shared/log.ts'
import { type Exec, Notifier, systemExec } from '../../shared/notify.ts'
import { confinement } from './confinement.ts'
import { isInstrumented, readConfiguration } from './environment.ts'
import type { Confine, Scripts } from './fleet.ts'
import { Gateway } from './gateway.ts'
import { defaultLimits, type SlotLimits } from './slot.ts'

export const program = 'aembit_mcp_gateway'

/** Beside us, and as we are: a release holds JavaScript. */
const script = (role: string): string =>
  fileURLToPath(new URL(`../${role}/main${extname(import.meta.url)}`, import.meta.url))

export interface RunOptions {
  readonly env: Env
  readonly scripts?: Scripts
  readonly confine?: Confine
  readonly limits?: SlotLimits
  readonly clock?: Clock
  readonly exec?: Exec
}

/**
 * Runs the gateway in this process until a signal ends it: TERM and INT stop it (twice: at once), HUP reloads, USR2
 * ends this process and leaves front and proxies to finish what they have.
 * Resolves with the exit code: 0 after a clean stop, 2 for a configuration or an address it can not start with, 1 for
 * what may pass.
 */
export async function runGateway({
  env,
  scripts = {
    front: script('front'),
    proxy: script('proxy'),
    sync: script('sync'),
    'stdio-adapter': script('stdio-adapter'),
  },
  confine,
  limits = defaultLimits,
  clock = systemClock,
  exec = systemExec,
}: RunOptions): Promise<number> {
  // What ended while we did not run is served and told: refusing would take the gateway with it.
  const read = readConfiguration(env, null)
  if ('problems' in read) {
    console.error(formatProblems(program, read.problems))
    return invalidConfigExit
  }
  const log = createLogger('supervisor', read.ok.logLevel)
  const instrumented = isInstrumented(env)
  if (instrumented)
    log.warn('NODE_OPTIONS loads code into every process: they are not confined to their files')
  const notifier = new Notifier({ env, exec, log })
  const gateway = new Gateway({
    env,
    config: read.ok,
    scripts,
    confine: confine ?? ((role, config) => confinement(role, config, instrumented)),
    limits,
    clock,
    random: Math.random,
    notifier,
    log,
  })

  const stopped = Promise.withResolvers<number>()
  const stop = (signal: string): void => {
    void gateway.stop(`asked by ${signal}`).then(() => stopped.resolve(0), stopped.reject)
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  process.on('SIGHUP', () => void gateway.reload())
  // Of the service unit, before a restart.
  process.on('SIGUSR2', () => void gateway.handOver().then(() => stopped.resolve(0), stopped.reject))

  void gateway.start().catch(async (error: unknown) => {
    const fault = Fault.from(error)
    console.error(`${program}: ${fault.detail ?? fault.message}`)
    await gateway.stop('it could not start', true)
    const ours = fault.code === 'config.invalid' || fault.code === 'listen.failed'
    stopped.resolve(ours ? invalidConfigExit : 1)
  })
  return stopped.promise
}
