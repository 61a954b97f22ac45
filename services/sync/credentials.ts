import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import { OwnedCache } from '../../shared/owned-cache.ts'
import {
  type CredentialAnswer,
  type CredentialRequest,
  credentialOwner,
  credentialVariant,
} from '../../shared/wire/credential.ts'

/** Whose credential, for which server. */
export interface CredentialKey {
  readonly issuer: string
  readonly subject: string
  readonly serverId: string
}

export interface CredentialsDeps {
  readonly ask: (request: CredentialRequest) => Promise<CredentialAnswer>
  readonly clock: Clock
  readonly skewMs: () => number
  /** Users' agents times servers that are kept; the longest unused go first. */
  readonly maxEntries?: number
}

interface Entry {
  readonly answer: CredentialAnswer
  /** Answered without asking, until then. */
  readonly freshUntil: number
  /** Answered while the control plane can not be reached, until then. */
  readonly goodUntil: number
}

interface Flight {
  readonly answer: Promise<CredentialAnswer>
  readonly rejected: string | undefined
  /** The answer may be older than an invalidation or a refusal: give it, do not keep it. */
  stale: boolean
}

const freshMs = 60_000
const lastGoodMs = 15 * 60_000
/** A credential that ends sooner would end on the way. */
const marginMs = 5_000
const maxFlights = 1_000

/**
 * Credentials in memory: asked once per user's agent and server however many wait, kept a minute, and for 15 minutes (never
 * past their own end) for the time when the control plane is away. Answers that a person or an administrator has to
 * change are not kept.
 */
export class Credentials {
  readonly #deps: CredentialsDeps
  readonly #entries: OwnedCache<Entry>
  /** By their owner, then by what is asked. */
  readonly #flights = new Map<string, Map<string, Flight>>()
  #flying = 0

  constructor(deps: CredentialsDeps) {
    this.#deps = deps
    this.#entries = new OwnedCache(deps.maxEntries ?? 10_000)
  }

  get size(): number {
    return this.#entries.size
  }

  /** Throws `control_plane.unreachable`, `http.busy`, or what the control plane refused with. */
  async get(request: CredentialRequest): Promise<CredentialAnswer> {
    const id = idOf(request)
    if (request.rejected === undefined && request.scope === undefined) {
      const entry = this.#entries.get(id)
      if (entry && entry.freshUntil > this.#deps.clock.now()) return entry.answer
    } else if (request.rejected !== undefined) {
      // Known bad from here on, also in what is being fetched for others right now.
      this.#forget(credentialOwner(request), request.rejected)
    }
    try {
      return await this.#fetch(id, request)
    } catch (error) {
      const plain = request.rejected === undefined && request.scope === undefined
      const entry = plain ? this.#entries.get(id) : undefined
      const away = error instanceof Fault && error.code === 'control_plane.unreachable'
      if (away && entry && entry.goodUntil > this.#deps.clock.now()) return entry.answer
      throw error
    }
  }

  invalidate(key: CredentialKey): void {
    this.#forget(credentialOwner(key))
  }

  /** Drops everything; gives the keys of what was kept. */
  clear(): CredentialKey[] {
    const keys = [...this.#entries.owners()].map(keyOf)
    this.#entries.clear()
    for (const flights of this.#flights.values()) for (const flight of flights.values()) flight.stale = true
    this.#flights.clear()
    return keys
  }

  /** Asks that already name the refused value need not start again. */
  #forget(owner: string, rejected?: string): void {
    this.#entries.drop(owner)
    const flights = this.#flights.get(owner)
    for (const [name, flight] of flights ?? []) {
      if (rejected !== undefined && flight.rejected === rejected) continue
      flight.stale = true
      flights?.delete(name)
    }
  }

  #fetch(id: string, request: CredentialRequest): Promise<CredentialAnswer> {
    const owner = credentialOwner(request)
    const { rejected, scope } = request
    const name = `${id}\n${scope === undefined ? (rejected ?? '') : `scope ${scope}`}`
    const running = this.#flights.get(owner)?.get(name)
    if (running) return running.answer
    if (this.#flying >= maxFlights)
      throw new Fault('http.busy', { detail: `${maxFlights} credentials are asked for` })
    const flights = this.#flights.get(owner) ?? new Map<string, Flight>()
    this.#flights.set(owner, flights)
    this.#flying++
    const answer = this.#deps
      .ask(request)
      .then((value) => {
        if (!flight.stale) this.#keep(id, request, value)
        return value
      })
      .finally(() => {
        this.#flying--
        if (flights.get(name) === flight) flights.delete(name)
        if (flights.size === 0 && this.#flights.get(owner) === flights) this.#flights.delete(owner)
      })
    const flight: Flight = { answer, rejected, stale: false }
    flights.set(name, flight)
    return answer
  }

  #keep(id: string, request: CredentialRequest, answer: CredentialAnswer): void {
    if (answer.kind === 'authorization_required' || answer.kind === 'denied') {
      this.#entries.delete(id)
      return
    }
    const now = this.#deps.clock.now()
    const end =
      'expiresAt' in answer && answer.expiresAt !== null
        ? Date.parse(answer.expiresAt) - this.#deps.skewMs() - marginMs
        : Number.POSITIVE_INFINITY
    this.#entries.set(credentialOwner(request), id, {
      answer,
      freshUntil: Math.min(now + freshMs, end),
      goodUntil: Math.min(now + lastGoodMs, end),
    })
  }
}

/** No line break is in JSON, and an owner is an array of it: no two questions make one string. */
const idOf = (request: CredentialRequest): string =>
  `${credentialOwner(request)}\n${credentialVariant(request)}`

function keyOf(owner: string): CredentialKey {
  const [issuer, subject, serverId] = JSON.parse(owner) as [string, string, string]
  return { issuer, subject, serverId }
}
