import { Fault } from '../../../shared/faults.ts'
import type { Decision } from '../../../shared/policy.ts'
import type { ContentGuard } from '../../../shared/wire/snapshot.ts'
import type { Guarded } from '../guard/guards.ts'
import type { Checked } from '../guard/types.ts'
import type { Context } from './context.ts'
import type { ContentSecurityVerdict, JsonObject } from './protocol/types.ts'

/** A guard stopped content that was on its way to the client; carries what the event says of it. */
export class ContentRefused extends Error {
  readonly guarded: Guarded

  constructor(guarded: Guarded) {
    super(explanationOf(guarded))
    this.name = 'ContentRefused'
    this.guarded = guarded
  }
}

/** The guards of the policy that decided, if any. */
export function guardsOf({ call }: Context, decision: Decision): readonly ContentGuard[] {
  return call.index.policies.get(decision.policyId ?? '')?.guards ?? []
}

/** Asks the guards of a policy, no longer than the call itself may take. Rejects where the call was given up. */
export async function guard(
  context: Context,
  guards: readonly ContentGuard[],
  what: Pick<Checked, 'phase' | 'server' | 'tool' | 'content'>,
): Promise<Guarded> {
  const { call, flight, deps } = context
  const { principal, circumstances } = call
  const { email } = principal.claims
  const { server } = what
  const checked: Checked = {
    ...what,
    server: { id: server.id, name: server.name },
    user: { subject: principal.subject, ...(typeof email === 'string' ? { email } : {}) },
    client: {
      id: principal.clientId,
      ...(circumstances.clientIp === undefined ? {} : { ip: circumstances.clientIp }),
    },
  }
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

/** What looks at a result before the client gets it; undefined where no guard does. */
export function inspector(
  context: Context,
  decision: Decision,
  server: Checked['server'],
  tool: string,
): ((result: JsonObject) => Promise<Guarded>) | undefined {
  const guards = guardsOf(context, decision)
  if (guards.length === 0) return undefined
  return async (result) => {
    const guarded = await guard(context, guards, { phase: 'output', server, tool, content: result })
    if (!guarded.allow) throw new ContentRefused(guarded)
    return guarded
  }
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
