import { hash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/clock.ts'
import type { Logger } from '../../../shared/log.ts'
import type { Principal } from '../../../shared/policy.ts'
import { backoffMs } from '../../../shared/retry.ts'
import type { ContentGuard, GuardPhase } from '../../../shared/wire/content-security.ts'
import { guardCredentialPrefix } from '../../../shared/wire/credential.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { ContentSecurityVerdict, Credentials } from '../mcp/protocol/types.ts'
import type { Measures } from '../measures.ts'
import { aidrDialect, isAidrPhase } from './aidr.ts'
import { hookDialect } from './hook.ts'
import { createPoster, maxBodyBytes } from './post.ts'
import { type Checked, type Dialect, type GuardAnswer, isListing } from './types.ts'

/** What all guards of a policy said together. */
export interface Guarded {
  readonly allow: boolean
  /** What goes on in place of what was checked; the same object where nothing changed. */
  readonly content: unknown
  /** Undefined where no guard answered (fail-open, fail-closed). */
  readonly verdict: ContentSecurityVerdict | undefined
  /** Why not, for the event: content_blocked, or content_unchecked where a guard that fails closed gave no answer. */
  readonly reasonCode?: 'content_blocked' | 'content_unchecked'
}

export interface Guards {
  /** Every guard in turn, each on what the one before it left. Stops at the first that blocks. Never rejects. */
  check(guards: readonly ContentGuard[], checked: Checked, signal: AbortSignal): Promise<Guarded>
  stats(): Record<string, number>
  close(): Promise<void>
}

/** How long a verdict on a listing counts for the same listing. */
const listingMs = 5 * 60_000
const retry = { baseMs: 100, capMs: 2_000 }
const nobody: Principal = Object.freeze({
  issuer: '',
  subject: '',
  clientId: '',
  clientWorkload: undefined,
  identityProvider: undefined,
  claims: Object.freeze({}),
})

export function createGuards(deps: {
  credentials: Credentials
  clock: Clock
  log: Logger
  measures?: Measures
}): Guards {
  const { credentials, clock, log, measures } = deps
  const poster = createPoster()
  const counts = {
    CrowdStrikeAIDR: { scanned: 0, fail_open: 0, fail_closed: 0 },
    HttpGuard: { scanned: 0, fail_open: 0, fail_closed: 0 },
  }
  const count = ({ type }: ContentGuard, outcome: 'scanned' | 'fail_open' | 'fail_closed'): void => {
    counts[type][outcome]++
    // The documented metric speaks of AIDR alone.
    if (type === 'CrowdStrikeAIDR') measures?.guardDecisions.inc(outcome)
    else measures?.httpGuardDecisions.inc(outcome)
  }
  const dialects = new WeakMap<ContentGuard, Dialect>()
  const listings = new LRUCache<string, { answer: GuardAnswer; until: number }>({ max: 2_000 })

  const dialectOf = (guard: ContentGuard): Dialect => {
    let dialect = dialects.get(guard)
    if (!dialect) {
      dialect = guard.type === 'CrowdStrikeAIDR' ? aidrDialect(guard.baseUrl) : hookDialect(guard.url)
      dialects.set(guard, dialect)
    }
    return dialect
  }

  const authorization = async (guard: ContentGuard): Promise<Record<string, string>> => {
    if (!guard.secret) return {}
    const server: ServerWorkload = {
      id: guardCredentialPrefix + guard.id,
      name: guard.name,
      prefix: null,
      url: dialectOf(guard).url,
      credential: 'required',
      allowedNetworks: guard.allowedNetworks,
    }
    const answer = await credentials.get(nobody, server)
    if (answer.kind !== 'headers') throw new Error('the guard has no secret at the control plane')
    return Object.fromEntries(answer.headers.map(({ name, value }) => [name.toLowerCase(), value]))
  }

  /** One guard's answer, tried again where trying may help. Throws where there is none. */
  async function ask(guard: ContentGuard, checked: Checked, signal: AbortSignal): Promise<GuardAnswer> {
    const dialect = dialectOf(guard)
    const body = JSON.stringify(dialect.body(checked))
    if (Buffer.byteLength(body) > maxBodyBytes)
      throw new Error(`the content has more than ${maxBodyBytes} bytes`)
    const headers = await authorization(guard)
    for (let attempt = 0; ; attempt++) {
      let failure: string
      try {
        const limit = AbortSignal.any([signal, AbortSignal.timeout(guard.timeoutMs)])
        const { status, body: answer } = await poster.post(
          dialect.url,
          guard.allowedNetworks,
          headers,
          body,
          limit,
        )
        if (status === 200) return dialect.read(answer, checked)
        failure = `HTTP ${status}`
        if (status !== 429 && status < 500) throw new Error(failure)
      } catch (error) {
        if (signal.aborted || !isTransient(error)) throw error
        failure = nameOf(error)
      }
      if (attempt >= guard.maxRetries) throw new Error(`${failure}, ${attempt + 1} tries`)
      await sleep(backoffMs(attempt, retry), undefined, { signal })
    }
  }

  async function one(
    guard: ContentGuard,
    checked: Checked,
    signal: AbortSignal,
  ): Promise<GuardAnswer | undefined> {
    const key = isListing(checked.phase)
      ? hash(
          'sha256',
          JSON.stringify([guard, checked.phase, checked.server.id, checked.content]),
          'base64url',
        )
      : undefined
    const known = key === undefined ? undefined : listings.get(key)
    if (known && known.until > clock.now()) return known.answer
    try {
      const answer = await ask(guard, checked, signal)
      count(guard, 'scanned')
      if (key !== undefined) listings.set(key, { answer, until: clock.now() + listingMs })
      return answer
    } catch (error) {
      const verdict = guard.failOpen ? 'fail_open' : 'fail_closed'
      count(guard, verdict)
      log.warn(
        {
          guard: guard.id,
          server: checked.server.id,
          phase: checked.phase,
          failOpen: guard.failOpen,
          why: nameOf(error),
        },
        'a content guard gave no answer',
      )
      return undefined
    }
  }

  return {
    async check(guards, checked, signal) {
      let { content } = checked
      let verdict: ContentSecurityVerdict | undefined
      for (const guard of guards) {
        if (!looksAt(guard, checked.phase)) continue
        const answer = await one(guard, { ...checked, content }, signal)
        if (!answer) {
          if (guard.failOpen) continue
          return { allow: false, content, verdict, reasonCode: 'content_unchecked' }
        }
        const { content: made, ...said } = answer
        verdict = { ...verdict, [guard.type === 'CrowdStrikeAIDR' ? 'crowdStrikeAidr' : 'httpGuard']: said }
        if (answer.decision === 'blocked')
          return { allow: false, content, verdict, reasonCode: 'content_blocked' }
        if (answer.decision === 'transformed') content = made
      }
      return { allow: true, content, verdict }
    },
    stats: () => ({
      ...named('aidrGuard', counts.CrowdStrikeAIDR),
      ...named('httpGuard', counts.HttpGuard),
    }),
    close: () => poster.close(),
  }
}

const named = (prefix: string, counted: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(counted).map(([outcome, n]) => [`${prefix}.${outcome}`, n]))

/** Whether a guard is asked about content of this kind at all. */
export const looksAt = (guard: ContentGuard, phase: GuardPhase): boolean =>
  guard.type === 'HttpGuard' ? guard.checks.includes(phase) : isAidrPhase(phase)

/** The network and time-outs of a try; an answer of the wrong shape comes out the same each time. */
function isTransient(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  return (
    error.name === 'TimeoutError' ||
    ('code' in error && typeof error.code === 'string' && /^(UND_ERR|E[A-Z]+)/.test(error.code))
  )
}

/** For the log: never the words of a parser, which quote what they read. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name
  return error.constructor === Error ? error.message : code
}
