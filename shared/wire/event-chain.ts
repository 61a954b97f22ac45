import { hash } from 'node:crypto'
import { z } from 'zod'

/**
 * The place of an event in the chain of the process that wrote it: `seq` counts from 1, `prev` is the digest of the
 * event before (empty for the first). What is taken out, put in, changed or moved afterwards does not fit any more.
 */
export const eventChainSchema = z.object({
  /** One chain for each proxy process. */
  id: z.uuid(),
  seq: z.number().int().positive(),
  prev: z.string().regex(/^([\w-]{43})?$/),
})
export type EventLink = z.infer<typeof eventChainSchema>

/** base64url of the SHA-256 of an event's JSON, as `JSON.stringify` writes what was parsed from its line. */
export const eventDigest = (json: string): string => hash('sha256', json, 'base64url')

/** The JSON of an event with its link. A test holds every event that proxy makes to what `JSON.stringify` writes. */
export const linked = (json: string, { id, seq, prev }: EventLink): string =>
  `${json.slice(0, -1)},"chain":{"id":"${id}","seq":${seq},"prev":"${prev}"}}`

/** What a gateway remembers of the last event of a chain that the control plane took. */
export const chainHeadSchema = z.object({
  seq: z.number().int().positive(),
  digest: z.string(),
  /** When that event was made, ISO 8601. */
  at: z.string(),
})
export type ChainHead = z.infer<typeof chainHeadSchema>

/** GET /gateway/v1/event-chains: what is stored of this gateway. */
export const storedChainsSchema = z.object({
  chains: z.array(
    z.object({
      id: z.string(),
      /** Events that are stored. */
      events: z.number().int(),
      /** Up to this number retention has deleted events; 0: none. */
      sweptThrough: z.number().int(),
    }),
  ),
})
export type StoredChain = z.infer<typeof storedChainsSchema>['chains'][number]

/** GET /gateway/v1/event-chains/<id>?after=<seq>: events as they came, by number; none: that was the last. */
export const chainPageSchema = z.object({ events: z.array(z.record(z.string(), z.unknown())) })

/** What `audit verify` found. */
export interface TrailReport {
  readonly complete: boolean
  readonly chains: number
  /** Events that fit. */
  readonly events: number
  /** Events that retention deleted, as the control plane says. */
  readonly swept: number
  /** One line each, what is wrong; not all where there are many. */
  readonly problems: readonly string[]
  /** How many there are altogether. */
  readonly problemCount: number
  /** What could not be proven, one line each. */
  readonly notes: readonly string[]
}

interface Chained {
  readonly meta?: { readonly timestamp?: unknown; readonly eventId?: unknown }
  readonly chain?: Partial<EventLink>
}

/** Goes along a chain, event by event. Finds what is missing, changed, moved, or cut off at its end. */
export class ChainCheck {
  readonly problems: string[] = []
  /** Events that fit. */
  events = 0
  readonly #sweptThrough: number
  readonly #head: ChainHead | undefined
  /** Number and digest of the event before; an empty digest is one that can not be known. */
  #last = 0
  #digest: string | undefined = ''
  #name = ''

  constructor(sweptThrough: number, head: ChainHead | undefined) {
    this.#sweptThrough = sweptThrough
    this.#head = head
  }

  /** The next event as the control plane has it. */
  take(event: Chained): void {
    const { seq = 0, prev } = event.chain ?? {}
    const name = `event ${seq} (${event.meta?.eventId} of ${event.meta?.timestamp})`
    if (seq <= this.#last) {
      this.problems.push(`${name} stands after event ${this.#last}: the order was changed`)
      return
    }
    if (seq > this.#last + 1) this.#missing(this.#last + 1, seq - 1)
    else if (this.#digest !== undefined && prev !== this.#digest) {
      this.problems.push(
        this.#last === 0
          ? `${name} is not the first that was written`
          : `${this.#name} is not as it was written, or ${name} is not: the two do not fit`,
      )
    }
    const digest = eventDigest(JSON.stringify(event))
    this.#last = seq
    this.#digest = digest
    this.#name = name
    this.events++
    if (seq === this.#head?.seq && digest !== this.#head.digest)
      this.problems.push(`${name} is not as this gateway sent it`)
  }

  /** There are no more. */
  end(): void {
    const sent = this.#head?.seq ?? 0
    if (sent > this.#last) this.#missing(this.#last + 1, sent)
  }

  /** What retention took away is no loss. */
  #missing(from: number, to: number): void {
    this.#digest = undefined
    const first = Math.max(from, this.#sweptThrough + 1)
    if (first > to) return
    this.problems.push(first === to ? `event ${first} is missing` : `events ${first} to ${to} are missing`)
  }
}
