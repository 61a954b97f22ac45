import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import { backoffMs } from '../../../shared/retry.ts'

/** A credential that can be made again at any time. */
export interface Issued<T> {
  readonly value: T
  /** What its digest is taken of, as `credentialText` has it. */
  readonly text: string
  /** Milliseconds since the epoch; null where it knows no end. */
  readonly expiresAt: number | null
}

/** The maker of a credential says no, and would say so again. `reason` is safe to show to an operator. */
export class Refused extends Error {
  readonly reason: string
  /** OAuth error code, where there was one. `cause`: a Fault whose detail is for the log. */
  readonly code: string | undefined

  constructor(reason: string, code?: string, options?: ErrorOptions) {
    super(reason, options)
    this.name = 'Refused'
    this.reason = reason
    this.code = code
  }
}

export interface IssuedAsk<T> {
  /** The configuration it is made by: another configuration, another credential. */
  readonly config: object
  /** For whom it is; the same for everybody where it says nothing. */
  readonly whom: string
  readonly make: () => Promise<Issued<T>>
  /** Digest of what the server refused. */
  readonly rejected?: string | undefined
}

export interface IssuedCredentials {
  /**
   * One that is good now: made once however many ask, renewed ahead of its end without anybody waiting. Throws Refused,
   * or `credential.unavailable` where a later try may succeed.
   */
  get<T>(ask: IssuedAsk<T>): Promise<Issued<T>>
}

interface Slot {
  issued: Issued<unknown> | undefined
  madeAt: number
  making: Promise<Issued<unknown>> | undefined
  failures: number
  notBefore: number
  lastError: unknown
  /** When one was made because the server refused the one before. */
  replacedAt: number
}

const aheadMs = 60_000
const aheadShare = 0.2
/** With less left than this it is not handed out: it would end on its way. */
const marginMs = 5_000
/** A credential that is refused so soon after a refusal: the next one would be, too. */
const refusedAgainMs = 30_000
const maxPerConfig = 10_000
const backoff = { baseMs: 1_000, capMs: 60_000, floorMs: 500 }

/** Credentials that we make or fetch ourselves, in memory alone: after a restart they are made again. */
export function createIssuedCredentials(clock: Clock, random: () => number): IssuedCredentials {
  const caches = new WeakMap<object, LRUCache<string, Slot>>()

  const slotOf = (config: object, whom: string): Slot => {
    let cache = caches.get(config)
    if (!cache) {
      cache = new LRUCache({ max: maxPerConfig })
      caches.set(config, cache)
    }
    let slot = cache.get(whom)
    if (!slot) {
      slot = {
        issued: undefined,
        madeAt: 0,
        making: undefined,
        failures: 0,
        notBefore: 0,
        lastError: undefined,
        replacedAt: Number.NEGATIVE_INFINITY,
      }
      cache.set(whom, slot)
    }
    return slot
  }

  const make = <T>(slot: Slot, work: () => Promise<Issued<T>>): Promise<Issued<T>> => {
    if (slot.making) return slot.making as Promise<Issued<T>>
    if (clock.now() < slot.notBefore) return Promise.reject(slot.lastError)
    const making = work()
      .then(
        (issued) => {
          slot.issued = issued
          slot.madeAt = clock.now()
          slot.failures = 0
          slot.notBefore = 0
          return issued
        },
        (error: unknown) => {
          slot.failures += 1
          slot.lastError = error instanceof Refused ? error : unavailable(error)
          slot.notBefore = clock.now() + backoffMs(slot.failures, { ...backoff, random })
          throw slot.lastError
        },
      )
      .finally(() => {
        slot.making = undefined
      })
    slot.making = making
    return making
  }

  return {
    get: async <T>({ config, whom, make: work, rejected }: IssuedAsk<T>): Promise<Issued<T>> => {
      const slot = slotOf(config, whom)
      const held = slot.issued as Issued<T> | undefined
      const now = clock.now()
      const left = held === undefined ? 0 : (held.expiresAt ?? Number.POSITIVE_INFINITY) - now
      const refused = held !== undefined && rejected === digestOf(held.text)
      if (refused && !slot.making) {
        if (now - slot.replacedAt < refusedAgainMs) throw new Refused('credential_rejected')
        const fresh = await make(slot, work)
        slot.replacedAt = clock.now()
        if (digestOf(fresh.text) === rejected) throw new Refused('credential_rejected')
        return fresh
      }
      if (!held || left <= marginMs || refused) return make(slot, work)
      const life = (held.expiresAt ?? 0) - slot.madeAt
      if (left < Math.min(aheadMs, life * aheadShare) * (1 - random() * 0.25))
        make(slot, work).catch(() => {})
      return held
    },
  }
}

const digestOf = (text: string): string => createHash('sha256').update(text).digest('base64url')

function unavailable(error: unknown): Fault {
  const fault = Fault.from(error)
  return new Fault('credential.unavailable', { detail: fault.detail ?? fault.code, cause: error })
}
