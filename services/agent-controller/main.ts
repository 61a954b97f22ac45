import { hostname } from 'node:os'
import { systemClock } from '../../shared/clock.ts'
import { formatProblems, invalidConfigExit } from '../../shared/config/env.ts'
import { Fault } from '../../shared/faults.ts'
import { createLogger } from '../../shared/log.ts'
import { Notifier, systemExec } from '../../shared/notify.ts'
import { startController } from './app.ts'
import { readBuildInfo } from './build-info.ts'
import { parseControllerEnv } from './settings.ts'

const program = 'aembit_agent_controller'
const read = parseControllerEnv(process.env)
if ('problems' in read) {
  console.error(formatProblems(program, read.problems))
  process.exit(invalidConfigExit)
}
if (process.argv.includes('--check')) {
  console.log('settings are valid')
  process.exit(0)
}
const settings = read.ok
const log = createLogger(program, settings.logLevel)
const build = readBuildInfo()

try {
  const controller = await startController(settings, {
    build,
    hostname: hostname(),
    clock: systemClock,
    random: Math.random,
    env: process.env,
    log,
  })
  log.info(
    { ...build, port: controller.port, tls: settings.tls !== null, metrics: settings.metrics },
    'agent controller serves',
  )
  const notifier = new Notifier({ env: process.env, exec: systemExec, log })
  const ended = new AbortController()
  void notifier.ready(`version ${build.version} serves`)
  void notifier.beat(systemClock, ended.signal)

  const stop = async (): Promise<void> => {
    setTimeout(() => process.exit(1), 5_000).unref()
    ended.abort()
    void notifier.stopping('stopping')
    await controller.close()
    process.exit(0)
  }
  process.once('SIGTERM', stop)
  process.once('SIGINT', stop)
} catch (error) {
  const fault = Fault.from(error)
  if (fault.code !== 'config.invalid' && fault.code !== 'listen.failed') throw error
  console.error(`${program}: ${fault.detail ?? fault.message}`)
  process.exit(invalidConfigExit)
}
