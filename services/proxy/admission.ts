import { addressFits } from '../../shared/client-match.ts'
import { Fault } from '../../shared/faults.ts'
import type { PolicyIndex, Principal } from '../../shared/policy.ts'

/**
 * Has the token all scopes of this gateway? All that an operation needs is asked for in one go (MCP authorization, scope
 * step-up). What a foreign issuer calls its scopes says nothing here; policy decides on its tokens alone.
 */
export function requireScopes({ snapshot }: PolicyIndex, principal: Principal): void {
  const { issuers, gateway } = snapshot
  const ours = issuers.some(
    (known) => known.kind === 'authorization-server' && known.issuer === principal.issuer,
  )
  if (!ours) return
  const { scope } = principal.claims
  const granted = typeof scope === 'string' ? scope.split(' ') : []
  const missing = gateway.scopes.filter((wanted) => !granted.includes(wanted))
  if (missing.length > 0) throw new Fault('token.scope', { detail: `lacks ${missing.join(' ')}` })
}

/** The token says which client it is; where it may be used from is looked at each time. */
export function requireAddress(index: PolicyIndex, principal: Principal, address: string): void {
  const workload = index.clients.get(principal.clientWorkload ?? '')
  if (!workload || addressFits(workload, address)) return
  throw new Fault('policy.gateway_denied', {
    detail: `client workload "${workload.name}" is not for ${address}`,
    data: { decision: 'client_address' },
  })
}
