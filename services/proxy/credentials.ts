import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { OwnedCache } from '../../shared/owned-cache.ts'
import { browserIpClaim, type Principal } from '../../shared/policy.ts'
import {
  type CredentialAnswer,
  type CredentialRequest,
  credentialOwner,
  credentialVariant,
} from '../../shared/wire/credential.ts'
import type { ServerWorkload } from '../../shared/wire/snapshot.ts'
import type { Measures } from './measures.ts'

export interface CredentialsDeps {
  /** One question to sync; rejects with a Fault where sync or the control plane can not answer. */
  readonly ask: (request: CredentialRequest) => Promise<CredentialAnswer>
  readonly clock: Clock
  readonly log: Logger
  readonly maxCached?: number
  readonly measures?: Pick<Measures, 'credentialAnswers'>
}

interface Held {
  readonly answer: CredentialAnswer
  /** Asked again in the background from then on, ms since the epoch. */
  readonly refreshAt: number
  readonly endsAt: number
}

interface Asking {
  readonly owner: string
  readonly answer: Promise<CredentialAnswer>
}

/** What a question says of a principal, and what of it tells answers apart. */
interface Asker {
  readonly question: Omit<CredentialRequest, 'serverId'>
  readonly key: string
}

const holdMs = 60_000
/** A credential is not used in its last seconds: the request it goes on takes time too. */
const skewMs = 5_000
const none: CredentialAnswer = Object.freeze({ kind: 'none' })

/**
 * What to put on requests of one user's agent to one server: asked of sync once, kept in memory alone for 60 s or to its end,
 * whichever comes first, and asked again ahead of that while it is in use. Links and refusals are not kept, so that
 * a call works as soon as the person has connected the account.
 */
export class Credentials {
  readonly #deps: CredentialsDeps
  readonly #held: OwnedCache<Held>
  /** By the verified token: worked out once, not on each call. */
  readonly #askers = new WeakMap<Principal, Asker>()
  /** By the verified token: gone with it. */
  readonly #authorizations = new WeakMap<Principal, Map<string, string>>()
  readonly #asking = new Map<string, Asking>()

  constructor(deps: CredentialsDeps) {
    this.#deps = deps
    this.#held = new OwnedCache(deps.maxCached ?? 10_000)
  }

  get cached(): number {
    return this.#held.size
  }

  /**
   * `rejected` is the SHA-256 (base64url) of a value that the server just refused: the kept answer is dropped and
   * the control plane is told. `scope` is what the server demands beyond what the kept one is good for: it stays, since
   * other requests need no more. Throws credential.unavailable.
   */
  async get(
    principal: Principal,
    server: ServerWorkload,
    rejected?: string,
    scope?: string,
    clientIp?: string,
  ): Promise<CredentialAnswer> {
    if (server.credential === 'none') return none
    // JSON has no line break in it.
    const key = `${this.#asker(principal).key}\n${server.id}`
    const from = clientIp === undefined ? {} : { clientIp }
    if (rejected !== undefined) {
      this.#held.drop(ownerOf(principal, server))
      return this.#ask(`${key}\n${rejected}`, key, principal, server, { rejected, ...from })
    }
    if (scope !== undefined) return this.#ask(`${key}\n${scope}`, key, principal, server, { scope, ...from })
    const now = this.#deps.clock.now()
    const held = this.#held.get(key)
    if (held && now < held.endsAt) {
      this.#note(principal, server.id, held.answer)
      if (now >= held.refreshAt) {
        this.#ask(key, key, principal, server, from).catch((error: unknown) => {
          this.#deps.log.warn(
            { server: server.id, code: Fault.from(error).code },
            'credential not refreshed ahead',
          )
        })
      }
      return held.answer
    }
    const answer = await this.#ask(key, key, principal, server, from)
    // Also for whoever joined in the question of another token.
    this.#note(principal, server.id, answer)
    return answer
  }

  /** The control plane said that what we hold for this pair may be wrong. */
  drop(issuer: string, subject: string, serverId: string): void {
    const owner = credentialOwner({ issuer, subject, serverId })
    this.#held.drop(owner)
    // An answer on its way may be from before: whoever waits gets it, nobody after.
    for (const [flight, asking] of this.#asking) if (asking.owner === owner) this.#asking.delete(flight)
  }

  /** Invalidations may have been missed: nothing that we hold is sure. */
  dropAll(): void {
    this.#held.clear()
    this.#asking.clear()
  }

  #ask(
    flight: string,
    key: string,
    principal: Principal,
    server: ServerWorkload,
    more: Pick<CredentialRequest, 'rejected' | 'scope' | 'clientIp'> = {},
  ): Promise<CredentialAnswer> {
    const running = this.#asking.get(flight)
    if (running) return running.answer
    const owner = ownerOf(principal, server)
    const answer = this.#deps
      .ask({ ...this.#asker(principal).question, serverId: server.id, ...more })
      .then(
        (answer) => {
          this.#note(principal, server.id, answer)
          if (this.#asking.get(flight) === asked) this.#hold(owner, key, answer)
          this.#count(outcomeOf(answer))
          return answer
        },
        (error: unknown) => {
          this.#count('unavailable')
          throw new Fault('credential.unavailable', { detail: detailOf(error), cause: error })
        },
      )
      .finally(() => {
        if (this.#asking.get(flight) === asked) this.#asking.delete(flight)
      })
    const asked: Asking = { owner, answer }
    this.#asking.set(flight, asked)
    return answer
  }

  #asker(principal: Principal): Asker {
    const known = this.#askers.get(principal)
    if (known) return known
    const { issuer, subject, clientId } = principal
    const question = { issuer, subject, clientId, ...ofToken(principal) }
    const asker = { question, key: JSON.stringify([issuer, subject, credentialVariant(question)]) }
    this.#askers.set(principal, asker)
    return asker
  }

  /** The event by which this person was last given a credential for the server, with the same token. */
  authorization(principal: Principal, serverId: string): string | undefined {
    return this.#authorizations.get(principal)?.get(serverId)
  }

  #note(principal: Principal, serverId: string, answer: CredentialAnswer): void {
    const id = 'authorizationId' in answer ? answer.authorizationId : undefined
    let all = this.#authorizations.get(principal)
    if (!all) {
      if (id === undefined) return
      all = new Map()
      this.#authorizations.set(principal, all)
    }
    if (id === undefined) all.delete(serverId)
    else if (all.get(serverId) !== id) all.set(serverId, id)
  }

  #count(outcome: string): void {
    this.#deps.measures?.credentialAnswers.inc(outcome)
  }

  #hold(owner: string, key: string, answer: CredentialAnswer): void {
    if (answer.kind === 'authorization_required' || answer.kind === 'denied') return
    const now = this.#deps.clock.now()
    const ends = 'expiresAt' in answer && answer.expiresAt !== null ? Date.parse(answer.expiresAt) : Infinity
    const endsAt = Math.min(now + holdMs, ends - skewMs)
    if (endsAt > now) this.#held.set(owner, key, { answer, endsAt, refreshAt: now + (endsAt - now) * 0.75 })
  }
}

/** What the control plane needs of a token to decide once more. Of ours it knows the person, so claims stay here. */
function ofToken({ direct, claims }: Principal): Pick<CredentialRequest, 'browserIp' | 'claims'> {
  const browserIp = claims[browserIpClaim]
  return {
    ...(typeof browserIp === 'string' ? { browserIp } : {}),
    ...(direct ? { claims: { ...claims } } : {}),
  }
}

const outcomeOf = ({ kind }: CredentialAnswer): string =>
  kind === 'authorization_required' || kind === 'denied' ? kind : 'issued'

const ownerOf = ({ issuer, subject }: Principal, { id }: ServerWorkload): string =>
  credentialOwner({ issuer, subject, serverId: id })

function detailOf(error: unknown): string {
  const fault = Fault.from(error)
  return fault.detail ?? fault.code
}
