import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic } from '../../shared/files.ts'
import type { WorkloadEvent } from '../../shared/wire/event.ts'
import {
  ChainCheck,
  type ChainHead,
  chainHeadSchema,
  eventDigest,
  type TrailReport,
} from '../../shared/wire/event-chain.ts'
import type { ControlPlane } from './control-plane.ts'

const headsSchema = z.record(z.string(), chainHeadSchema)
/** Chains of which the end is known; each process of a proxy makes one. */
const maxHeads = 2_000
const maxProblems = 100

/**
 * The other half of the audit trail's proof. Events lie in the control plane's database; the number and digest of the
 * last one of each chain stay here, so neither side can shorten or rewrite the trail unnoticed.
 */
export class Trail {
  readonly #path: string
  readonly #plane: Pick<ControlPlane, 'eventChains' | 'eventChain'>
  #verifying: Promise<TrailReport> | undefined

  constructor(stateDir: string, plane: Pick<ControlPlane, 'eventChains' | 'eventChain'>) {
    this.#path = join(stateDir, 'event-heads.json')
    this.#plane = plane
  }

  /** Remembers where each chain now ends. */
  async shipped(events: readonly WorkloadEvent[]): Promise<void> {
    const last = new Map<string, WorkloadEvent>()
    for (const event of events) {
      const before = event.chain && last.get(event.chain.id)
      if (event.chain && !(before?.chain && before.chain.seq > event.chain.seq))
        last.set(event.chain.id, event)
    }
    if (last.size === 0) return
    // Read again each time: while sync is replaced there are two.
    const heads = await this.#heads()
    for (const [id, event] of last) {
      const seq = event.chain?.seq ?? 0
      if (seq > (heads.get(id)?.seq ?? 0))
        heads.set(id, { seq, digest: eventDigest(JSON.stringify(event)), at: event.meta.timestamp })
    }
    const kept = [...heads].sort(([, a], [, b]) => (a.at < b.at ? 1 : -1)).slice(0, maxHeads)
    await writeFileAtomic(this.#path, `${JSON.stringify(Object.fromEntries(kept))}\n`)
  }

  /** Reads all that is stored of this gateway; several at once share one. Throws like the control plane. */
  verify(): Promise<TrailReport> {
    this.#verifying ??= this.#verify().finally(() => {
      this.#verifying = undefined
    })
    return this.#verifying
  }

  async #verify(): Promise<TrailReport> {
    // Before the events: what is stored meanwhile is more than the heads say, never less.
    const heads = await this.#heads()
    const stored = new Map((await this.#plane.eventChains()).map((chain) => [chain.id, chain]))
    const problems: string[] = []
    let [events, swept, problemCount, unknown] = [0, 0, 0, 0]
    for (const id of new Set([...heads.keys(), ...stored.keys()])) {
      const head = heads.get(id)
      const sweptThrough = stored.get(id)?.sweptThrough ?? 0
      const check = new ChainCheck(sweptThrough, head)
      if ((stored.get(id)?.events ?? 0) > 0) await this.#walk(id, check)
      check.end()
      events += check.events
      swept += sweptThrough
      if (!head) unknown++
      problemCount += check.problems.length
      for (const problem of check.problems) {
        if (problems.length < maxProblems) problems.push(`chain ${id}: ${problem}`)
      }
    }
    const notes =
      unknown === 0
        ? []
        : [
            `${unknown} chains are not known here: they are whole as far as they go, but their end can not be proven`,
          ]
    const chains = stored.size
    return { complete: problemCount === 0, chains, events, swept, problems, problemCount, notes }
  }

  async #walk(id: string, check: ChainCheck): Promise<void> {
    for (let after = 0; ; ) {
      const page = await this.#plane.eventChain(id, after)
      for (const event of page) check.take(event)
      const next = lastNumber(page)
      // A page that leads nowhere would be asked for without end.
      if (next <= after) return
      after = next
    }
  }

  async #heads(): Promise<Map<string, ChainHead>> {
    try {
      return new Map(Object.entries(headsSchema.parse(JSON.parse(await readFile(this.#path, 'utf8')))))
    } catch {
      return new Map()
    }
  }
}

const lastNumber = (page: readonly Record<string, unknown>[]): number =>
  Math.max(0, ...page.map(({ chain }) => Number((chain as { seq?: unknown } | undefined)?.seq ?? 0)))
