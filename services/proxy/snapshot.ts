import { hash } from 'node:crypto'
import { open } from 'node:fs/promises'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { SnapshotRef } from '../../shared/ipc/contract.ts'
import type { Logger } from '../../shared/log.ts'
import { indexSnapshot, type PolicyIndex } from '../../shared/policy.ts'
import { snapshotSchema } from '../../shared/wire/snapshot.ts'

/** 10,000 policies and 5,000 servers fit in a tenth of it; a larger file is a mistake or an attack. */
const maxSnapshotBytes = 64 * 1024 * 1024

export interface SnapshotDeps {
  readonly maxAgeMs: number
  readonly clock: Clock
  readonly log: Logger
  /** Called after each swap, with the index that requests are decided on from now. */
  readonly onSwap: (index: PolicyIndex) => void
}

/**
 * The policy that requests are decided on: one pointer, swapped whole. A request keeps the index it started with.
 * Only a version above the current one is taken, so that a replayed pointer can not undo a revocation.
 */
export class SnapshotHolder {
  readonly #deps: SnapshotDeps
  #index: PolicyIndex | undefined
  #confirmedAt = 0
  /** Loads run one after the other, in the order the pointers came. */
  #loading: Promise<void> = Promise.resolve()

  constructor(deps: SnapshotDeps) {
    this.#deps = deps
  }

  /** The newest index, however old; undefined before the first. For what is not a decision (metadata, stats). */
  get latest(): PolicyIndex | undefined {
    return this.#index
  }

  /** Milliseconds since the control plane last said that the snapshot is current; Infinity before the first. */
  get ageMs(): number {
    return this.#index ? this.#deps.clock.now() - this.#confirmedAt : Number.POSITIVE_INFINITY
  }

  /** The index to decide on. Throws snapshot.none, snapshot.stale: without a policy known to be current, nobody passes. */
  require(): PolicyIndex {
    if (!this.#index) throw new Fault('snapshot.none')
    if (this.ageMs > this.#deps.maxAgeMs) throw new Fault('snapshot.stale')
    return this.#index
  }

  /** The control plane said at `confirmedAt` (ms since the epoch) that `version` is still what counts. */
  confirm(version: number, confirmedAt: number): void {
    if (this.#index?.snapshot.version === version) {
      this.#confirmedAt = Math.max(this.#confirmedAt, confirmedAt)
    }
  }

  /** Takes the snapshot that `ref` points at. Rejects with a Fault and keeps the old one where it does not verify. */
  load(ref: SnapshotRef, confirmedAt: number): Promise<void> {
    const result = this.#loading.then(() => this.#load(ref, confirmedAt))
    this.#loading = result.catch(() => {})
    return result
  }

  async #load(ref: SnapshotRef, confirmedAt: number): Promise<void> {
    const current = this.#index?.snapshot.version ?? 0
    if (ref.version === current) return this.confirm(ref.version, confirmedAt)
    if (ref.version < current) {
      throw new Fault('config.invalid', {
        detail: `snapshot ${ref.version} is older than ${current}; kept ${current}`,
      })
    }
    const bytes = await readBounded(ref.path, maxSnapshotBytes)
    if (hash('sha256', bytes, 'hex') !== ref.sha256) {
      throw new Fault('config.invalid', {
        detail: `snapshot file ${ref.path} is not the one that was announced`,
      })
    }
    const parsed = snapshotSchema.safeParse(JSON.parse(bytes.toString('utf8')))
    if (!parsed.success) {
      const where = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')
      throw new Fault('config.invalid', { detail: `snapshot ${ref.version}: ${where}` })
    }
    if (parsed.data.version !== ref.version) {
      throw new Fault('config.invalid', {
        detail: `snapshot file holds version ${parsed.data.version}, not ${ref.version}`,
      })
    }
    this.#index = indexSnapshot(deepFreeze(parsed.data))
    this.#confirmedAt = confirmedAt
    this.#deps.onSwap(this.#index)
    this.#deps.log.info(
      { version: ref.version, servers: parsed.data.servers.length, policies: parsed.data.policies.length },
      'policy snapshot in force',
    )
  }
}

async function readBounded(path: string, limit: number): Promise<Buffer> {
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    if (size > limit) throw new Fault('config.invalid', { detail: `snapshot file ${path} has ${size} bytes` })
    return await file.readFile()
  } finally {
    await file.close()
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const item of Object.values(value)) deepFreeze(item)
  }
  return value
}
