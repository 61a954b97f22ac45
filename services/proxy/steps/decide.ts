import { Fault } from '../../../shared/faults.ts'
import { type Decision, decideGateway } from '../../../shared/policy.ts'
import type { Exchange } from '../exchange.ts'

/** May this client and user use the gateway at all? Which servers they reach is decided per server, in the core. */
export function decide(x: Exchange): void {
  const decision = gatewayDecision(x)
  if (!decision.allow) {
    throw new Fault('policy.gateway_denied', {
      detail: decision.explanation,
      data: { decision: decision.reason },
    })
  }
}

/** The decision of this request's snapshot; kept beside the verified token, which is dropped with the snapshot. */
export function gatewayDecision(x: Exchange): Decision {
  const { verified, index } = x
  if (verified.checked !== index) return decideGateway(index, verified.principal)
  verified.decision ??= decideGateway(index, verified.principal)
  return verified.decision
}
