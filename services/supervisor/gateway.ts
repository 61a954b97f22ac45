import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import type { Server } from 'node:http'
import { join } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import type { Env } from '../../shared/config/env.ts'
import type { GatewayConfig } from '../../shared/config/gateway.ts'
import { Fault, type FaultJson } from '../../shared/faults.ts'
import { ensurePrivateDir } from '../../shared/files.ts'
import { createLogger, type Logger } from '../../shared/log.ts'
import type { Notifier } from '../../shared/notify.ts'
import { checkValkey } from '../../shared/valkey.ts'
import { childEnvironment, readConfiguration } from './environment.ts'
import { type Confine, Fleet, type Scripts } from './fleet.ts'
import { startHealth } from './health.ts'
import { formatAddress, type Listeners, openListeners } from './listeners.ts'
import { Metrics } from './metrics.ts'
import { answers, operatorSocketPath, startOperator } from './operator.ts'
import { Probes, probeEveryMs } from './probes.ts'
import { reasonsAgainst, reasonsAgainstStart, startFaultOf, warningsOf } from './readiness.ts'
import { fixedChanges, spoolDir, successionPath } from './slices.ts'
import type { SlotLimits } from './slot.ts'
import { describe, type GatewayStatus, type ReloadStatus } from './status.ts'
import { waitForStore } from './store-wait.ts'
import { Totals } from './totals.ts'

export interface GatewayOptions {
  readonly env: Env
  readonly config: GatewayConfig
  readonly scripts: Scripts
  readonly confine: Confine
  readonly limits: SlotLimits
  readonly clock: Clock
  readonly random: () => number
  readonly notifier: Notifier
  readonly log: Logger
}

/** The whole: listeners, fleet, readiness, operator socket. */
export class Gateway {
  readonly #options: GatewayOptions
  readonly #startedAt: number
  readonly #started = Promise.withResolvers<void>()
  #config: GatewayConfig
  #listeners: Listeners | undefined
  #fleet: Fleet | undefined
  #servers: Server[] = []
  #lastReload: ReloadStatus | null = null
  #reloading = false
  #stopping: Promise<void> | undefined
  #told = ''
  #everReady = false
  readonly #ended = new AbortController()
  readonly #totals = new Totals()
  readonly #probes = new Probes()

  constructor(options: GatewayOptions) {
    this.#options = options
    this.#config = options.config
    this.#startedAt = options.clock.now()
  }

  /**
   * Resolves when every check runs for the first time, a certificate that has ended aside. Throws Fault `listen.failed`
   * or `config.invalid` where it can never run with this configuration; what may pass (a control plane that is away) is
   * waited for, a session store for a minute (`session.store`).
   */
  async start(): Promise<void> {
    const { env, scripts, confine, limits, clock, log, random, notifier } = this.#options
    const config = this.#config
    await makeFolder('AEMBIT_RUNTIME_DIR', config.runtimeDir)
    await makeFolder('AEMBIT_STATE_DIR', config.stateDir)
    await makeFolder('AEMBIT_STATE_DIR', spoolDir(config))
    // First, because it tells whether another gateway owns the folder and its sockets.
    this.#servers.push(
      await startOperator(operatorSocketPath(config.runtimeDir), {
        status: () => this.status(),
        restart: (name) => this.#restart(name),
        reload: () => this.reload(),
      }),
    )
    await removeDeadSockets(config.runtimeDir)
    if (this.#stopping) return this.#started.promise
    const { valkey } = config
    if (valkey) {
      const check = (): Promise<void> => checkValkey(valkey, log)
      await waitForStore({ check, clock, signal: this.#ended.signal, log })
    }
    if (this.#stopping) return this.#started.promise
    this.#listeners = openListeners(config.listen, env)
    if (config.listen.metrics !== 0) {
      this.#servers.push(
        await startHealth(config.listen.address, config.listen.metrics, {
          status: () => this.status(),
          alive: () => this.#fleet?.alive() === true,
          probes: this.#probes,
          metrics: new Metrics(this.#totals, this.#probes),
        }),
      )
    }
    if (this.#stopping) return this.#started.promise
    this.#fleet = new Fleet({
      config,
      listeners: this.#listeners,
      scripts,
      confine,
      limits,
      clock,
      random,
      log,
      env: childEnvironment(env),
      onMeasured: (measured) => this.#totals.add(measured),
      onChange: () => this.#judge(),
    })
    this.#fleet.start()
    void this.#probe()
    void notifier.beat(clock, this.#ended.signal, () => this.#fleet?.alive() === true)
    await this.#started.promise
  }

  status(): GatewayStatus {
    if (!this.#fleet) throw new Fault('internal', { detail: 'still starting' })
    return describe({
      fleet: this.#fleet,
      config: this.#config,
      startedAt: this.#startedAt,
      now: this.#options.clock.now(),
      lastReload: this.#lastReload,
      probes: this.#probes.reasons,
    })
  }

  /** Reads the configuration again and puts it in force whole, or keeps the running one and says why. */
  async reload(): Promise<readonly string[]> {
    if (this.#reloading || this.#stopping || !this.#fleet) return ['a reload, start or stop is under way']
    this.#reloading = true
    const { notifier, log, clock } = this.#options
    void notifier.reloading()
    const problems = await this.#tryReload(this.#fleet).catch((error) => [
      Fault.from(error).detail ?? 'internal error',
    ])
    this.#reloading = false
    this.#lastReload = { at: new Date(clock.now()).toISOString(), problems }
    if (problems.length === 0) log.info({ digest: this.#config.digest }, 'configuration reloaded')
    else log.error({ problems }, 'reload refused; the running configuration stays')
    void notifier.ready(problems.length === 0 ? this.#told : `reload refused: ${problems[0]}`)
    return problems
  }

  /** Ends everything, clients first. A second call, or `atOnce`, ends it without waiting for anyone. */
  stop(reason: string, atOnce = this.#stopping !== undefined): Promise<void> {
    if (atOnce) this.#fleet?.killAll()
    if (this.#stopping) return this.#stopping
    this.#options.log.info({ reason }, 'stopping')
    this.#stopping = this.#end(reason)
    return this.#stopping
  }

  /** Ends this process alone: front and proxies finish what they have, and another supervisor takes over meanwhile. */
  async handOver(): Promise<void> {
    if (this.#stopping) return this.#stopping
    this.#options.log.info('handing over')
    this.#ended.abort()
    this.#stopping = (async () => {
      await Promise.race([this.#options.notifier.stopping('handing over'), this.#options.clock.sleep(500)])
      for (const server of this.#servers) {
        server.close()
        server.closeAllConnections()
      }
      await this.#fleet?.release()
      this.#listeners?.close()
    })()
    return this.#stopping
  }

  async #end(reason: string): Promise<void> {
    this.#ended.abort()
    await Promise.race([this.#options.notifier.stopping(reason), this.#options.clock.sleep(500)])
    await this.#fleet?.stop()
    this.#listeners?.close()
    rmSync(successionPath(this.#config), { force: true })
    for (const server of this.#servers) {
      server.close()
      server.closeAllConnections()
    }
  }

  async #tryReload(fleet: Fleet): Promise<readonly string[]> {
    const { env } = this.#options
    let read = readConfiguration(env, null)
    // Files that are served already may have ended; others take their place only where they have not.
    if ('ok' in read && JSON.stringify(read.ok.tls) !== JSON.stringify(this.#config.tls))
      read = readConfiguration(env)
    if ('problems' in read) return read.problems.map(({ key, message }) => `${key} ${message}`)
    const fixed = fixedChanges(this.#config, read.ok)
    if (fixed.length > 0)
      return fixed.map((key) => `${key} can not change while running; restart the gateway`)
    if (read.ok.valkey) {
      const away = await checkValkey(read.ok.valkey, this.#options.log).catch((error: unknown) =>
        Fault.from(error),
      )
      if (away) return [away.detail ?? away.message]
    }
    const fault = await fleet.reconfigure(read.ok)
    if (fault) return [fault.detail ?? fault.text]
    this.#config = read.ok
    this.#options.log.level = createLogger('supervisor', read.ok.logLevel).level
    return []
  }

  async #probe(): Promise<void> {
    const { signal } = this.#ended
    while (!signal.aborted) {
      this.#probes.look(this.status())
      await this.#options.clock.sleep(probeEveryMs, signal).catch(() => {})
    }
  }

  #restart(name: string): Promise<readonly string[]> | undefined {
    const slots = this.#fleet?.find(name)
    if (!slots || !this.#fleet) return undefined
    this.#options.log.info({ process: name }, 'restart asked for')
    return this.#fleet.restart(slots).then((fault) => (fault ? [fault.detail ?? fault.text] : []))
  }

  /** Tells the log and systemd when what they know is no longer true. */
  #judge(): void {
    const fleet = this.#fleet
    if (!fleet || this.#stopping) return
    const fault = this.#everReady ? undefined : startFaultOf(fleet.slots)
    if (fault) {
      this.#started.reject(this.#explain(fault))
      return
    }
    const reasons = reasonsAgainst(fleet.slots)
    const warnings = warningsOf(fleet.slots)
    const serving = [`ready, serving ${this.#config.gatewayUrl}`, ...warnings].join('; ')
    const line = reasons.length === 0 ? serving : `not ready: ${[...reasons, ...warnings].join('; ')}`
    if (line === this.#told) return
    this.#told = line
    const { notifier, log } = this.#options
    if (reasons.length > 0) {
      const serves = reasonsAgainstStart(fleet.slots).length === 0
      log[this.#everReady || serves ? 'warn' : 'debug']({ reasons }, 'not ready')
      if (serves) this.#tell(line)
      else void notifier.status(line)
      return
    }
    log[warnings.length > 0 ? 'warn' : 'info'](
      {
        url: this.#config.gatewayUrl,
        version: this.status().version,
        ...(warnings.length > 0 ? { warnings } : {}),
      },
      'ready',
    )
    this.#tell(line)
  }

  /** It serves; the first time, the start is over. */
  #tell(line: string): void {
    void this.#options.notifier[this.#everReady ? 'status' : 'ready'](line)
    if (!this.#everReady) this.#takeOver()
    this.#everReady = true
    this.#started.resolve()
  }

  /** Those of a supervisor that died may leave: we serve. */
  #takeOver(): void {
    if (!this.#listeners?.inherited) return
    writeFileSync(successionPath(this.#config), `${process.pid} ${this.#startedAt}`, { mode: 0o600 })
  }

  /** Front sees an errno; here the address and the setting behind its descriptor are known. */
  #explain({ slot, fault }: { slot: string; fault: FaultJson }): Fault {
    const detail = fault.detail ?? fault.text
    if (fault.code !== 'listen.failed' || slot !== 'front')
      return new Fault(fault.code, { detail: `${slot}: ${detail}` })
    const http = detail.startsWith('http:')
    const { address, https, http: httpPort } = this.#config.listen
    const variable = http ? 'AEMBIT_HTTP_PORT' : 'AEMBIT_HTTPS_PORT'
    const where = formatAddress(address, http ? httpPort : https)
    return new Fault('listen.failed', {
      detail: detail.includes('EADDRINUSE')
        ? `${where} is taken by another process; stop it or set ${variable}`
        : `${where} can not be listened on (${detail}); set ${variable}`,
    })
  }
}

/** Of proxies that were killed; those of a supervisor before us that still serve keep theirs. */
async function removeDeadSockets(folder: string): Promise<void> {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name)
    if (/^(proxy|peer)-\d+\.\d+\.sock(\.new)?$/.test(name) && !(await answers(path)))
      rmSync(path, { force: true })
  }
}

async function makeFolder(key: string, path: string): Promise<void> {
  try {
    await ensurePrivateDir(path)
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error)
    throw new Fault('config.invalid', {
      detail: `${key}: the folder ${path} can not be made private (${reason})`,
    })
  }
}
