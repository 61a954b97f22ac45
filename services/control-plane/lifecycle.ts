import { systemClock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import type { Notifier } from '../../shared/notify.ts'
import type { ControlPlane } from './server.ts'

const stopLimitMs = 8_000

/** SIGHUP applies the configuration again, SIGTERM and SIGINT stop cleanly, anything thrown past us ends the process. */
export function live(running: ControlPlane, log: Logger, notifier: Notifier): void {
  const ended = new AbortController()
  void notifier.beat(systemClock, ended.signal)
  process.on('SIGHUP', async () => {
    void notifier.reloading()
    let status = 'the configuration was applied'
    try {
      await running.reload()
      log.info({ event: 'config.applied' }, 'the configuration was applied')
    } catch (error) {
      const fault = Fault.from(error)
      for (const problem of (fault.detail ?? fault.message).split('\n')) {
        log.error({ event: 'config.refused', code: fault.code }, problem)
      }
      status = 'reload refused: the log says why; the former configuration is in force'
      log.error({ event: 'config.kept' }, 'the configuration was not applied; the former one is in force')
    }
    void notifier.ready(status)
  })

  let stopping = false
  const stop = async (): Promise<void> => {
    if (stopping) return
    stopping = true
    ended.abort()
    void notifier.stopping('stopping')
    // A peer that never reads its answer must not keep us.
    setTimeout(() => process.exit(1), stopLimitMs).unref()
    try {
      await running.stop()
      log.info({ event: 'stopped' }, 'stopped')
      process.exit(0)
    } catch (err) {
      log.error({ err }, 'stopping failed')
      process.exit(1)
    }
  }
  process.on('SIGTERM', () => void stop())
  process.on('SIGINT', () => void stop())
  process.on('uncaughtException', (err) => {
    log.fatal({ err }, 'uncaught exception')
    process.exit(1)
  })
  process.on('unhandledRejection', (err) => {
    log.fatal({ err }, 'unhandled rejection')
    process.exit(1)
  })
}
