import { Fault } from '../../../shared/faults.ts'
import { type Decision, decideGateway } from '../../../shared/policy.ts'
import { requireAddress, requireScopes } from '../admission.ts'
import { bearerToken } from '../auth/bearer.ts'
import type { TokenVerifier } from '../auth/verifier.ts'
import type { Exchange } from '../exchange.ts'
import type { Run } from '../pipeline.ts'
import type { SnapshotHolder } from '../snapshot.ts'

export interface DecideDeps {
  readonly snapshots: SnapshotHolder
  readonly verifier: TokenVerifier
}

/**
 * May this client and user use the gateway at all? Which servers they reach is decided per server, in the core.
 * A body that took its time is decided on the policy of now, not on the one that its headers came under.
 */
export function decide({ snapshots, verifier }: DecideDeps): Run {
  return (x) => {
    if (x.index === snapshots.latest) return admit(x)
    x.index = snapshots.require()
    if (x.verified.trust === verifier.trust) return admit(x, verifier.recheck(x.verified))
    // Its issuer, key or audience may be none of ours any more.
    const verified = verifier.verify(bearerToken(x.req.url ?? '', x.req.rawHeaders))
    if (!(verified instanceof Promise)) return admit(x, verified)
    return verified.then((late) => admit(x, late))
  }
}

function admit(x: Exchange, verified = x.verified): void {
  x.verified = verified
  requireScopes(x.index, x.principal)
  requireAddress(x.index, x.principal, x.client.address)
  const decision = gatewayDecision(x)
  if (!decision.allow) {
    throw new Fault('policy.gateway_denied', {
      detail: decision.explanation,
      data: { decision: decision.reason },
    })
  }
}

/**
 * The decision of this request's snapshot; where it holds for every request, kept beside the verified token, which is
 * dropped with the snapshot.
 */
export function gatewayDecision(x: Exchange): Decision {
  const { verified, index } = x
  if (verified.checked === index && verified.decision) return verified.decision
  const decision = decideGateway(index, verified.principal, x.circumstances)
  if (verified.checked === index && !decision.volatile) verified.decision = decision
  return decision
}
