import { execFile } from 'node:child_process'
import type { Clock } from './clock.ts'
import type { Logger } from './log.ts'

/** Runs a program; injected by tests. Rejects where it can not be run or fails. */
export type Exec = (file: string, args: readonly string[]) => Promise<void>

export const systemExec: Exec = (file, args) =>
  new Promise((resolve, reject) => {
    execFile(file, args, { timeout: 10_000 }, (error) => (error ? reject(error) : resolve()))
  })

/** What systemd shows of STATUS in one line of `systemctl status`. */
const maxStatusLength = 80

export interface NotifierOptions {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly exec: Exec
  readonly log: Logger
  readonly pid?: number
  /** CLOCK_MONOTONIC in microseconds. */
  readonly monotonicUsec?: () => bigint
}

/**
 * sd_notify(3) through systemd's own program, because Node.js opens no datagram unix sockets. Without NOTIFY_SOCKET
 * nothing is run. The unit needs NotifyAccess=all: the sender is a child of the main process. Messages go out one
 * after the other, in the order of the calls; one that fails is logged and never stops the gateway.
 */
export class Notifier {
  /** Half of WATCHDOG_USEC in ms, as sd_watchdog_enabled(3) advises; undefined where no watchdog watches us. */
  readonly watchdogMs: number | undefined
  readonly #exec: Exec | undefined
  readonly #log: Logger
  readonly #monotonicUsec: () => bigint
  #queue: Promise<void> = Promise.resolve()
  #waiting = 0

  constructor({ env, exec, log, pid = process.pid, monotonicUsec = monotonic }: NotifierOptions) {
    this.#exec = env.NOTIFY_SOCKET ? exec : undefined
    this.#log = log
    this.#monotonicUsec = monotonicUsec
    const usec = Number(env.WATCHDOG_USEC)
    const ours = env.WATCHDOG_PID === undefined || Number(env.WATCHDOG_PID) === pid
    this.watchdogMs = this.#exec && ours && usec > 0 ? Math.floor(usec / 2000) : undefined
  }

  ready(status: string): Promise<void> {
    return this.#send(['READY=1', statusLine(status)])
  }

  status(status: string): Promise<void> {
    return this.#send([statusLine(status)])
  }

  /** READY=1 has to follow, whatever comes of the reload (Type=notify-reload). */
  reloading(): Promise<void> {
    return this.#send(['RELOADING=1', `MONOTONIC_USEC=${this.#monotonicUsec()}`])
  }

  stopping(status: string): Promise<void> {
    return this.#send(['STOPPING=1', statusLine(status)])
  }

  watchdog(): Promise<void> {
    // A slow manager must not make us queue one beat on another: the one that waits says the same.
    if (this.#waiting > 4) return this.#queue
    return this.#send(['WATCHDOG=1'])
  }

  /** Tells systemd for as long as `alive` says so that the process lives; without a watchdog it returns at once. */
  async beat(clock: Clock, signal: AbortSignal, alive: () => boolean = () => true): Promise<void> {
    if (this.watchdogMs === undefined) return
    while (!signal.aborted) {
      if (alive()) void this.watchdog()
      await clock.sleep(this.watchdogMs, signal).catch(() => {})
    }
  }

  #send(variables: readonly string[]): Promise<void> {
    const exec = this.#exec
    if (!exec) return Promise.resolve()
    this.#waiting++
    this.#queue = this.#queue.then(async () => {
      try {
        await exec('systemd-notify', variables)
      } catch (error) {
        this.#log.warn({ err: error, variables }, 'systemd could not be notified')
      } finally {
        this.#waiting--
      }
    })
    return this.#queue
  }
}

const monotonic = (): bigint => process.hrtime.bigint() / 1000n

const statusLine = (status: string): string =>
  `STATUS=${status.replace(/\s+/g, ' ').slice(0, maxStatusLength)}`
