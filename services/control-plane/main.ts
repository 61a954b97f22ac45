import { readFileSync } from 'node:fs'
import { systemClock } from '../../shared/clock.ts'
import { formatProblems, invalidConfigExit } from '../../shared/config/env.ts'
import { Fault } from '../../shared/faults.ts'
import { createLogger } from '../../shared/log.ts'
import { Notifier, systemExec } from '../../shared/notify.ts'
import { checkConfiguration } from './check.ts'
import { readEnvironment } from './environment.ts'
import { live } from './lifecycle.ts'
import { startControlPlane } from './server.ts'

const program = 'aembit_control_plane'
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

process.umask(0o077)
const read = readEnvironment(process.env)
if ('problems' in read) {
  console.error(formatProblems(program, read.problems))
  process.exit(invalidConfigExit)
}
const environment = read.ok
if (process.argv.includes('--check')) process.exit(await checkConfiguration(program, environment.configPath))
const log = createLogger('control-plane', environment.logLevel)
const refuse = (error: unknown): never => {
  const fault = Fault.from(error)
  if (fault.code === 'config.invalid' || fault.code === 'listen.failed') {
    console.error(`${program}: ${fault.message}\n${fault.detail ?? ''}`)
    process.exit(invalidConfigExit)
  }
  log.fatal({ err: error }, 'the control plane could not start')
  process.exit(1)
}

// Until there is something to reload, a SIGHUP must not end the process, which is what it does without a listener.
let hupEarly = false
const early = (): void => {
  hupEarly = true
}
process.on('SIGHUP', early)
const started = performance.now()
const running = await startControlPlane({ environment, clock: systemClock, log, version }).catch(refuse)
log.info(
  {
    event: 'ready',
    version,
    publicSocket: running.publicSocket,
    machineSocket: running.machineSocket,
    startMs: Math.round(performance.now() - started),
  },
  'ready',
)
process.send?.({ type: 'ready' })
const notifier = new Notifier({ env: process.env, exec: systemExec, log })
void notifier.ready(`version ${version} serves`)

live(running, log, notifier)
process.off('SIGHUP', early)
if (hupEarly) process.kill(process.pid, 'SIGHUP')
