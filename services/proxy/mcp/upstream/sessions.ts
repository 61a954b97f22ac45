import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../../shared/clock.ts'
import { Fault } from '../../../../shared/faults.ts'
import type { ConfigOf } from '../../../../shared/ipc/contract.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { KeptUpstream, SessionNotes } from '../protocol/kept.ts'
import type { ServerInfo } from '../protocol/shape.ts'
import { Stop } from '../stop.ts'
import type { Headers, UpstreamHttp } from './http.ts'
import { createSession, type LegacySession, lastUsed } from './legacy-session.ts'
import { createOpening, NotLegacy } from './opening.ts'
import type { Party } from './request.ts'

/**
 * Sessions at legacy servers, one per downstream session and server, opened when first needed. What another process
 * opened for the same client session is gone on with, as far as it is kept; the rest is opened again.
 */
export interface LegacySessions {
  /** The one that is open, or a promise of one. `gone`: the one that the server just refused; another is opened. */
  get(
    party: Party,
    server: ServerWorkload,
    credential: Headers,
    gone?: LegacySession,
  ): LegacySession | Promise<LegacySession>
  /** The one that is open, which counts as used by this. */
  current(party: Party, server: ServerWorkload): LegacySession | undefined
  /** Those that are open for one downstream party. */
  openOf(binding: string): readonly LegacySession[]
  /** Ends those of one downstream party at their servers; no other is opened for it any more. */
  end(binding: string): Promise<void>
  /** Ends one that another process opened. */
  endKept(server: ServerWorkload, kept: KeptUpstream, credential: Headers): Promise<void>
  /** Ends those that nobody used for their time. */
  sweep(): void
  /** Ends all; waits for the servers no longer than `ms`. */
  close(ms: number): Promise<void>
  size(): number
}

interface Slot {
  session?: LegacySession
  opening?: Promise<LegacySession>
}
type Slots = Map<string, Slot>

const maxParties = 50_000
/** Clients without a session id leave no sign when they go, so what is held for them is given back sooner. */
const statelessIdleMs = 15 * 60_000
/** What still runs for a client that ended its session opens no other one, for this long. */
const endedMs = 10 * 60_000

export function createLegacySessions(deps: {
  http: UpstreamHttp
  config: ConfigOf['proxy']
  clock: Clock
  info: ServerInfo
  nextId(): number
  notes: SessionNotes | undefined
  /** Another session is used from now on, the first or after one that was gone. */
  onOpen(party: Party, session: LegacySession): void
  /** The client ended its session, at another gateway. */
  onEnded(binding: string): void
}): LegacySessions {
  const { http, config, clock, notes, onOpen, onEnded } = deps
  const { sessionsReinitialized, sessionsRestored } = http.measures
  const open = createOpening(deps)
  const idleMs = config.sessionIdleTtlSecs * 1000
  const parties = new LRUCache<string, Slots>({
    max: maxParties,
    ttl: idleMs,
    perf: clock,
    updateAgeOnGet: true,
    // Whatever pushed it out, the servers need not keep it.
    dispose: (slots, _binding, reason) => {
      if (reason !== 'set') void endAll(slots)
    },
  })

  const ended = new LRUCache<string, true>({ max: 10_000, ttl: endedMs, perf: clock })

  async function close(session: LegacySession): Promise<void> {
    if (!session.stateful || session.closed) return
    const stop = new Stop().limit(5_000)
    // With the credential it was used with last: no request is around to ask for another.
    await session.exchange({ headers: session.headers(lastUsed), stop, limit: 65_536 }).catch(() => {})
    stop.end()
  }

  async function endAll(slots: Slots): Promise<void> {
    const ending = [...slots.values()].map(async ({ session, opening }) => {
      const found = session ?? (await opening?.catch(() => undefined))
      if (found) await close(found)
    })
    await Promise.all(ending)
  }

  /** What another process opened, unless it is the one that is `gone`. Throws `session.unknown`. */
  async function restore(
    party: Party,
    server: ServerWorkload,
    gone: LegacySession | undefined,
  ): Promise<LegacySession | undefined> {
    if (!notes || !party.session) return undefined
    const kept = await notes.upstream(party.session, server.id).catch((error: unknown) => {
      if (Fault.from(error).code === 'session.unknown') {
        onEnded(party.binding)
        throw error
      }
      sessionsRestored.inc('error')
      return undefined
    })
    if (kept?.url !== server.url || (gone && kept.id === gone.id)) return undefined
    sessionsRestored.inc('success')
    return createSession(http, server, kept)
  }

  async function begin(
    party: Party,
    server: ServerWorkload,
    credential: Headers,
    gone: LegacySession | undefined,
    again: boolean,
  ): Promise<LegacySession> {
    const restored = await restore(party, server, gone)
    if (restored) return restored
    const counter = again ? sessionsReinitialized : party.session?.restored ? sessionsRestored : undefined
    try {
      const opened = await open(party, server, credential, again)
      counter?.inc('success')
      if (party.session && opened.kept) notes?.keepUpstream(party.session, server.id, opened.kept)
      return opened
    } catch (error) {
      // A server of the other era has no sessions to open again.
      if (!(error instanceof NotLegacy)) counter?.inc('error')
      throw error
    }
  }

  const slotOf = (party: Party, serverId: string): Slot => {
    let slots = parties.get(party.binding)
    if (!slots) {
      slots = new Map()
      parties.set(party.binding, slots, { ttl: party.live ? idleMs : Math.min(idleMs, statelessIdleMs) })
    }
    let slot = slots.get(serverId)
    if (!slot) {
      slot = {}
      slots.set(serverId, slot)
    }
    return slot
  }

  return {
    get(party, server, credential, gone) {
      if (ended.has(party.binding)) return Promise.reject(new Fault('session.unknown'))
      const slot = slotOf(party, server.id)
      const { session } = slot
      // Of several calls that found the same session gone, the first opens the next one for all. A server that moved
      // by a new configuration gets a new one too.
      if (
        session &&
        !session.closed &&
        session !== gone &&
        (session.server === server || session.server.url === server.url)
      )
        return session
      if (slot.opening) return slot.opening
      const again = gone !== undefined || slot.session !== undefined
      const opening = begin(party, server, credential, gone, again).finally(() => {
        slot.opening = undefined
      })
      slot.opening = opening
      opening.then(
        (opened) => {
          slot.session = opened
          onOpen(party, opened)
        },
        () => {
          slot.session = undefined
        },
      )
      return opening
    },
    current: (party, { id }) => parties.get(party.binding)?.get(id)?.session,
    openOf: (binding) =>
      [...(parties.peek(binding)?.values() ?? [])].flatMap(({ session }) =>
        session && !session.closed ? [session] : [],
      ),
    async end(binding) {
      ended.set(binding, true)
      const slots = parties.peek(binding)
      if (!slots) return
      const ending = endAll(new Map(slots))
      slots.clear()
      parties.delete(binding)
      await ending
    },
    async endKept(server, kept, credential) {
      const session = createSession(http, server, kept)
      session.headers(credential)
      await close(session)
    },
    sweep: () => {
      // A call may run for longer than nobody begins another: reading counts as a use.
      for (const [binding, slots] of parties.entries())
        if ([...slots.values()].some(({ session }) => session?.busy)) parties.get(binding)
      parties.purgeStale()
    },
    async close(ms) {
      const all = [...parties.values()].map((slots) => endAll(slots))
      let timer: NodeJS.Timeout | undefined
      const limit = new Promise((resolve) => {
        timer = setTimeout(resolve, ms)
      })
      await Promise.race([Promise.all(all), limit])
      clearTimeout(timer)
    },
    size() {
      let count = 0
      for (const slots of parties.values()) count += slots.size
      return count
    },
  }
}
