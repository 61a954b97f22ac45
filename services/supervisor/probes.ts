import type { GatewayStatus } from './status.ts'

export type ProbeName = 'cloud' | 'session_store'

/** Looks in a row that say no, after which the probe counts as down. Workers count three of their own for the store. */
const thresholds: Readonly<Record<ProbeName, number>> = { cloud: 3, session_store: 1 }
export const probeEveryMs = 5_000

interface Probe {
  up: boolean
  failures: number
  flaps: number
  why: string
}

/**
 * What `GET /readyz` asks beyond the gateway's own processes: is the control plane there, and the session store where one is
 * configured. A probe goes down after so many failed looks in a row, and comes up with the first that is good; each change
 * is a flap.
 */
export class Probes {
  readonly #probes = new Map<ProbeName, Probe>()

  look(status: Pick<GatewayStatus, 'processes'>): void {
    const cloud = status.processes.find(({ role, state }) => role === 'sync' && state !== 'draining')
    const away = cloud?.stats.control_plane === 'away'
    this.#judge(
      'cloud',
      away ? `the control plane is away (${cloud?.stats.last_error || 'no reason'})` : null,
    )
    const workers = status.processes.filter(({ role, state }) => role === 'proxy' && state !== 'draining')
    const store = workers
      .map(({ checks }) => checks['proxy.sessionStore'])
      .filter((said) => said !== undefined)
    if (store.length === 0) return
    this.#judge('session_store', store.find((said) => said.startsWith('failing')) ?? null)
  }

  /** Why a load balancer should go elsewhere; empty: it need not. */
  get reasons(): string[] {
    return [...this.#probes].flatMap(([name, { up, why }]) => (up ? [] : [`${name}: ${why}`]))
  }

  get all(): readonly { name: ProbeName; up: boolean; flaps: number }[] {
    return [...this.#probes].map(([name, { up, flaps }]) => ({ name, up, flaps }))
  }

  #judge(name: ProbeName, why: string | null): void {
    let probe = this.#probes.get(name)
    if (!probe) {
      probe = { up: true, failures: 0, flaps: 0, why: '' }
      this.#probes.set(name, probe)
    }
    probe.failures = why === null ? 0 : probe.failures + 1
    const up = why === null || (probe.up && probe.failures < thresholds[name])
    if (up !== probe.up) probe.flaps++
    probe.up = up
    probe.why = why ?? ''
  }
}
