import { Fault } from '../../../shared/faults.ts'
import type { Decision } from '../../../shared/policy.ts'
import type { ContentGuard } from '../../../shared/wire/content-security.ts'
import { type Guarded, looksAt } from '../guard/guards.ts'
import type { Checked } from '../guard/types.ts'
import type { Context } from './context.ts'
import type { Answered } from './flight.ts'
import { faultError, isObject } from './protocol/jsonrpc.ts'
import type { ContentSecurityVerdict, JsonObject, JsonRpcError, McpCall } from './protocol/types.ts'

/** A guard stopped content that was on its way to the client; carries what the event says of it. */
export class ContentRefused extends Error {
  readonly guarded: Guarded

  constructor(guarded: Guarded) {
    super(explanationOf(guarded))
    this.name = 'ContentRefused'
    this.guarded = guarded
  }
}

type Looked = Omit<Checked, 'user' | 'client'>

/** The guards of the policy that decided, if any. */
export function guardsOf({ call }: Context, decision: Decision): readonly ContentGuard[] {
  return call.index.policies.get(decision.policyId ?? '')?.guards ?? []
}

/** Asks the guards of a policy, no longer than the call itself may take. Rejects where the call was given up. */
export async function guard(
  context: Context,
  guards: readonly ContentGuard[],
  what: Looked,
): Promise<Guarded> {
  const { call, flight, deps } = context
  const checked = asked(call, what)
  const giveUp = new AbortController()
  const stop = (): void => giveUp.abort()
  flight.stop.on(stop)
  try {
    const guarded = await deps.guards.check(guards, checked, giveUp.signal)
    if (flight.stop.reason) throw flight.stop.reason
    return guarded
  } finally {
    flight.stop.off(stop)
  }
}

/** What guards are told of it, and in whose name. */
export function asked(
  { principal, circumstances }: Pick<McpCall, 'principal' | 'circumstances'>,
  what: Looked,
): Checked {
  const { email } = principal.claims
  const { id, name } = what.server
  return {
    ...what,
    server: { id, name },
    user: { subject: principal.subject, ...(typeof email === 'string' ? { email } : {}) },
    client: {
      id: principal.clientId,
      ...(circumstances.clientIp === undefined ? {} : { ip: circumstances.clientIp }),
    },
  }
}

/** What looks at a kind of content before the client gets it; undefined where no guard of the policy does. */
export function inspector(
  context: Context,
  decision: Decision,
  what: Omit<Looked, 'content'>,
): ((content: JsonObject) => Promise<Guarded>) | undefined {
  const guards = guardsOf(context, decision).filter((each) => looksAt(each, what.phase))
  if (guards.length === 0) return undefined
  return async (content) => {
    const guarded = await guard(context, guards, { ...what, content })
    if (!guarded.allow) throw new ContentRefused(guarded)
    return guarded
  }
}

/** A server's error as guards leave it; its code stays. Throws ContentRefused. */
export async function inspectError(
  context: Context,
  decision: Decision,
  about: Omit<Looked, 'content' | 'phase'>,
  error: JsonRpcError,
): Promise<{ error: JsonRpcError; verdict?: ContentSecurityVerdict | undefined }> {
  const inspect = inspector(context, decision, { ...about, phase: 'error' })
  if (!inspect) return { error }
  const { message, data } = error
  const { content, verdict } = await inspect({ message, ...(data === undefined ? {} : { data }) })
  const made = content as JsonObject
  return {
    error: {
      code: error.code,
      message: typeof made.message === 'string' ? made.message : '',
      ...(made.data === undefined ? {} : { data: made.data }),
    },
    verdict,
  }
}

/**
 * Asks the client what a server wants to know, as guards leave the question. One that they stop is answered to the server
 * with an error, and neither the person nor their model sees it.
 */
export function guardedAsk<Q extends { method: string; params?: JsonObject | undefined }>(
  context: Context,
  decision: Decision,
  about: Omit<Looked, 'content' | 'phase'>,
  ask: (question: Q) => Promise<Answered>,
): (question: Q) => Promise<Answered> {
  const inspect = inspector(context, decision, { ...about, phase: 'question' })
  if (!inspect) return ask
  return async (question) => {
    try {
      const { content } = await inspect({ method: question.method, params: question.params ?? {} })
      const { params } = content as JsonObject
      return ask(typeof params === 'object' && params !== null ? { ...question, params } : question)
    } catch (error) {
      if (error instanceof ContentRefused) return { error: faultError(contentFault(error.guarded), 'legacy') }
      throw error
    }
  }
}

/** The questions of an `input_required` result as guards leave them. Throws ContentRefused. */
export async function inspectQuestions(
  context: Context,
  decision: Decision,
  about: Omit<Looked, 'content' | 'phase'>,
  result: JsonObject,
): Promise<JsonObject> {
  const inspect = inspector(context, decision, { ...about, phase: 'question' })
  if (!inspect || !isObject(result.inputRequests)) return result
  const seen = await Promise.all(
    Object.entries(result.inputRequests).map(async ([key, question]) => {
      const { content } = await inspect(isObject(question) ? question : {})
      return [key, { ...(question as JsonObject), params: (content as JsonObject).params }]
    }),
  )
  return { ...result, inputRequests: Object.fromEntries(seen) }
}

/** In words for a person and a model; says nothing of the content. */
export function explanationOf({ reasonCode }: Guarded): string {
  return reasonCode === 'content_unchecked'
    ? 'Content could not be checked and the policy lets nothing unchecked through.'
    : 'A guard of content stopped this.'
}

export function contentFault(guarded: Guarded): Fault {
  return new Fault('policy.denied', {
    detail: explanationOf(guarded),
    data: {
      decision: guarded.reasonCode ?? 'content_blocked',
      retry: guarded.reasonCode === 'content_unchecked',
    },
  })
}

/** Two verdicts on one request, where there are two. */
export function verdicts(
  first: ContentSecurityVerdict | undefined,
  second: ContentSecurityVerdict | undefined,
): { contentSecurity?: ContentSecurityVerdict } {
  return first || second ? { contentSecurity: { ...first, ...second } } : {}
}
