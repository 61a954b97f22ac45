import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Fault } from '../faults.ts'
import { createLogger, type Logger } from '../log.ts'
import { Meter } from '../metrics/meter.ts'
import {
  type CheckStatus,
  type Command,
  type ConfigOf,
  commandSchemas,
  type OwnCommand,
  protocolVersion,
  type Report,
  type Role,
} from './contract.ts'
import { succeeded } from './succession.ts'

/** What a child's own code gets. */
export interface ChildContext<R extends Role> {
  readonly config: ConfigOf[R]
  readonly log: Logger
  /** Tells the supervisor of a named check, `<role>.<what>`; READY=1 waits until each one is running. */
  check(name: `${R}.${string}`, status: CheckStatus, fault?: Fault): void
  /** Numbers for `status`; the newest value of each name counts. */
  stats(values: Record<string, string | number>): void
  send(report: Extract<Report<R>, { type: 'snapshot' | 'confirmed' }>): void
  /** What it counts is reported with each answer to a ping, and at the end. */
  readonly meter: Meter
  /** Whose traffic is counted, once that is known. */
  tenant(id: string): void
}

/** What a child's own code gives back once it serves. */
export interface RunningChild<R extends Role> {
  command?(message: OwnCommand<R>): void
  /** A new configuration while running: apply it whole, or throw a Fault and keep the old. */
  reconfigure?(config: ConfigOf[R]): Promise<void>
  /** Without its supervisor it serves on until this file names another (`succession.ts`); null: it stops. */
  readonly successionPath?: string | null
  /** Nobody that the supervisor started is replaced any more; `drain` follows. */
  orphaned?(): void
  /** Stop taking new work, finish what runs; resolves with what was left at the deadline. */
  drain(deadlineMs: number): Promise<number>
}

/**
 * The life of a forked child: hello → configure → start → … → drain → exit 0. A child whose supervisor is gone
 * (IPC disconnect) or that is told SIGTERM drains too, the former when there is another one to serve. A message that does not fit the contract ends the process.
 */
export function runChild<R extends Role>(
  role: R,
  build: string,
  start: (context: ChildContext<R>) => Promise<RunningChild<R>>,
): void {
  if (!process.send) {
    console.error(
      `${role} is started by the supervisor, not by hand: run \`npm start\` or \`aembit_mcp_gateway\`.`,
    )
    process.exit(2)
  }
  const lag = monitorEventLoopDelay({ resolution: 10 })
  lag.enable()
  let log = createLogger(role)
  let running: RunningChild<R> | undefined
  let started = false
  let draining: Promise<void> | undefined
  const early: OwnCommand<R>[] = []
  const meter = new Meter()
  const cpu = meter.counter('process_cpu_seconds_total')
  let cpuBefore = 0
  let tenant = ''

  const report = (message: Report<R>): void => {
    if (process.connected) process.send?.(message, undefined, undefined, () => {})
  }
  const end = (code: number): never => process.exit(code)
  const measure = (): void => {
    const { user, system } = process.cpuUsage()
    const seconds = (user + system) / 1e6
    cpu.add(seconds - cpuBefore)
    cpuBefore = seconds
    const taken = meter.take()
    if (taken) report({ type: 'measured', tenant, ...taken } as Report<R>)
  }

  const drain = (deadlineMs: number): Promise<void> => {
    draining ??= (async () => {
      const left = running ? await running.drain(deadlineMs).catch(() => -1) : 0
      measure()
      report({ type: 'drained', left } as Report<R>)
      end(0)
    })()
    return draining
  }

  // One after the other: what comes during the start, or during another, is applied to what that leaves.
  let turn = Promise.resolve()
  const configure = (epoch: number, config: ConfigOf[R]): void => {
    turn = turn.then(() => apply(epoch, config))
  }
  const apply = async (epoch: number, config: ConfigOf[R]): Promise<void> => {
    if (running) {
      try {
        await running.reconfigure?.(config)
        report({ type: 'applied', epoch } as Report<R>)
      } catch (error) {
        report({ type: 'rejected', epoch, fault: Fault.from(error, 'config.invalid').toJSON() } as Report<R>)
      }
      return
    }
    // The start failed, and the process is about to end.
    if (started) return
    started = true
    log = createLogger(role, config.logLevel)
    const context: ChildContext<R> = {
      config,
      log,
      check: (name, status, fault) => {
        report({
          type: 'check',
          check: name,
          status,
          ...(fault ? { fault: fault.toJSON() } : {}),
        } as Report<R>)
      },
      stats: (values) => report({ type: 'stats', values } as Report<R>),
      send: (message) => report(message as Report<R>),
      meter,
      tenant: (id) => {
        tenant = id
      },
    }
    try {
      running = await start(context)
      for (const message of early.splice(0)) running.command?.(message)
      report({ type: 'applied', epoch } as Report<R>)
    } catch (error) {
      const fault = Fault.from(error)
      log.fatal({ err: error, code: fault.code, detail: fault.detail }, `${role} could not start`)
      report({ type: 'rejected', epoch, fault: fault.toJSON() } as Report<R>)
      setTimeout(() => end(1), 50)
    }
  }

  process.on('message', (raw) => {
    const parsed = commandSchemas[role].safeParse(raw)
    if (!parsed.success) {
      log.fatal({ issues: parsed.error.issues }, 'message from the supervisor does not fit the contract')
      return end(70)
    }
    const message = parsed.data as Command<R>
    switch (message.type) {
      case 'configure':
        configure(message.epoch, message.config as ConfigOf[R])
        break
      case 'drain':
        void drain(message.deadlineMs)
        break
      case 'ping':
        report({
          type: 'pong',
          n: message.n,
          lagMs: lag.max / 1e6,
          rssBytes: process.memoryUsage.rss(),
        } as Report<R>)
        lag.reset()
        measure()
        break
      default:
        if (running) running.command?.(message as OwnCommand<R>)
        else early.push(message as OwnCommand<R>)
    }
  })
  const leave = (): void => {
    if (!process.connected) running?.orphaned?.()
    void drain(10_000)
  }
  process.on('disconnect', () => {
    const path = running?.successionPath
    if (draining || !path) return leave()
    log.warn('the supervisor is gone; serves on until another one does')
    void succeeded(path).then(leave)
  })
  process.on('SIGTERM', leave)
  // Ctrl-C reaches the whole foreground group; the supervisor decides the order in which we stop.
  process.on('SIGINT', () => {})
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'uncaught exception')
    end(1)
  })
  process.on('unhandledRejection', (reason) => {
    log.fatal({ err: reason }, 'unhandled rejection')
    end(1)
  })
  report({ type: 'hello', protocol: protocolVersion, role, build } as Report<R>)
}
