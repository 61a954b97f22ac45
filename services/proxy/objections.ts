import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import { type Decision, decideGateway, decideServer, type PolicyIndex } from '../../shared/policy.ts'
import { requireAddress, requireScopes } from './admission.ts'
import type { TokenVerifier } from './auth/verifier.ts'
import type { Objection } from './mcp/protocol/types.ts'

/** What a new policy has against calls that run: token revoked, client or user shut out, server not theirs any more. */
export function objections(index: PolicyIndex, verifier: TokenVerifier, clock: Clock): Objection {
  return ({ principal, circumstances }, serverId) => {
    if (verifier.revoked(principal)) return new Fault('token.revoked')
    try {
      requireScopes(index, principal)
      if (circumstances?.clientIp !== undefined) requireAddress(index, principal, circumstances.clientIp)
    } catch (error) {
      return Fault.from(error)
    }
    const now = { ...circumstances, now: clock.now() }
    // Of a call whose client is away it is not known from where it came: what hangs on that waits until it is back.
    const denies = ({ allow, volatile }: Decision): boolean =>
      !allow && !(volatile && circumstances === undefined)
    const gateway = decideGateway(index, principal, now)
    if (denies(gateway)) return new Fault('policy.gateway_denied', { detail: gateway.explanation })
    if (serverId === undefined) return undefined
    const server = decideServer(index, principal, serverId, now)
    return denies(server) ? new Fault('policy.denied', { detail: server.explanation }) : undefined
  }
}
