import type { Principal } from '../../../shared/policy.ts'
import { isObject } from './protocol/jsonrpc.ts'
import { legacyVersions, metaKeys } from './protocol/shape.ts'
import type { JsonObject, McpCall, Session } from './protocol/types.ts'
import type { Party } from './upstream/request.ts'

const keys = new WeakMap<Principal, string>()
const ofSession = new WeakMap<Session, Party>()
const ofPrincipal = new WeakMap<Principal, Party>()

/** Issuer and subject in one string: what one person may see is never shown to another. */
export function principalKeyOf(principal: Principal): string {
  let key = keys.get(principal)
  if (key === undefined) {
    key = JSON.stringify([principal.issuer, principal.subject])
    keys.set(principal, key)
  }
  return key
}

/** What the client declared it can do, in this request or at initialize. */
export function clientCapabilities({ session, message }: McpCall): JsonObject {
  if (session) return session.clientCapabilities
  const meta = 'params' in message ? message.params?._meta : undefined
  const declared = isObject(meta) ? meta[metaKeys.capabilities] : undefined
  return isObject(declared) ? declared : {}
}

/** Towards servers, the client of a call. Made once per session and once per person without one. */
export function partyOf(call: McpCall): Party {
  const { session, principal } = call
  if (session) {
    let party = ofSession.get(session)
    // A new token of the same person carries newer claims; credentials are asked with them.
    if (party?.principal !== principal) {
      party = make(principal, session.id, bridgeable(session.clientCapabilities), session.protocolVersion)
      ofSession.set(session, party)
    }
    return party
  }
  let party = ofPrincipal.get(principal)
  if (!party) {
    party = make(principal, principalKeyOf(principal), {}, undefined)
    ofPrincipal.set(principal, party)
  }
  if (call.era === 'legacy') return party
  const capabilities = bridgeable(clientCapabilities(call))
  const variant = variantOf(capabilities)
  return variant === '' ? party : { ...party, capabilities, variant }
}

function make(
  principal: Principal,
  binding: string,
  capabilities: JsonObject,
  version: string | undefined,
): Party {
  return {
    principal,
    binding,
    principalKey: principalKeyOf(principal),
    variant: variantOf(capabilities),
    capabilities,
    live: version !== undefined,
    protocolVersion: version ?? legacyVersions[0],
  }
}

/** What the gateway can carry between the client and a server; the rest is not declared, which is always legal. */
function bridgeable({ elicitation, sampling, roots }: JsonObject): JsonObject {
  const capabilities: JsonObject = {}
  if (isObject(elicitation)) capabilities.elicitation = elicitation
  if (isObject(sampling)) capabilities.sampling = sampling
  // Changes of a client's roots are not relayed, so they are not announced.
  if (isObject(roots)) capabilities.roots = {}
  return capabilities
}

const variantOf = (capabilities: JsonObject): string => Object.keys(capabilities).join()
