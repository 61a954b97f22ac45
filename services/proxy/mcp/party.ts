import type { Principal } from '../../../shared/policy.ts'
import { isObject } from './protocol/jsonrpc.ts'
import { legacyVersions, metaKeys } from './protocol/shape.ts'
import type { JsonObject, McpCall, Session } from './protocol/types.ts'
import type { Party } from './upstream/request.ts'

const keys = new WeakMap<Principal, string>()
const ofSession = new WeakMap<Session, Party>()
const ofPrincipal = new WeakMap<Principal, Map<string, Party>>()

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
  const { clientIp } = call.circumstances
  if (session) return partyOfSession(session, principal, clientIp)
  const declared = call.era === 'legacy' ? {} : clientCapabilities(call)
  const capabilities = known(bridgeable(declared))
  const tasks = isObject(declared.extensions) && isObject(declared.extensions[metaKeys.tasks])
  const variant = `${variantOf(capabilities)}${tasks ? 'tasks' : ''}`
  const parties = ofPrincipal.get(principal) ?? new Map<string, Party>()
  ofPrincipal.set(principal, parties)
  let party = parties.get(variant)
  if (!party) {
    // Servers keep what a client can do for a session, so clients that differ in it do not share one.
    const key = principalKeyOf(principal)
    const binding = variant === '' ? key : `${key} ${variant}`
    party = { ...make(principal, binding, capabilities, undefined), variant, tasks }
    parties.set(variant, party)
  }
  if (party.clientIp !== clientIp) {
    party = { ...party, clientIp }
    parties.set(variant, party)
  }
  return party
}

export function partyOfSession(session: Session, principal: Principal, clientIp: string | undefined): Party {
  let party = ofSession.get(session)
  // A new token of the same person carries newer claims; credentials are asked with them.
  if (party?.principal !== principal || party.clientIp !== clientIp) {
    const capabilities = bridgeable(session.clientCapabilities)
    party = { ...make(principal, session.id, capabilities, session.protocolVersion), clientIp, session }
    ofSession.set(session, party)
  }
  return party
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
    tasks: false,
    live: version !== undefined,
    protocolVersion: version ?? legacyVersions[0],
  }
}

/** What the gateway can carry between the client and a server; the rest is not declared, which is always legal. */
function bridgeable({ elicitation, sampling, roots }: JsonObject): JsonObject {
  const capabilities: JsonObject = {}
  if (isObject(elicitation)) capabilities.elicitation = elicitation
  if (isObject(sampling)) capabilities.sampling = sampling
  // Only a session can say later that its roots changed.
  if (isObject(roots)) capabilities.roots = roots.listChanged === true ? { listChanged: true } : {}
  return capabilities
}

/** What there is to tell apart: sessions are kept per set, so a client must not be able to invent sets. */
function known(capabilities: JsonObject): JsonObject {
  const parts: Readonly<Record<string, readonly string[]>> = {
    elicitation: ['form', 'url'],
    sampling: ['context', 'tools'],
    roots: [],
  }
  const only = (value: unknown, keys: readonly string[]): JsonObject =>
    Object.fromEntries(keys.filter((key) => isObject(value) && isObject(value[key])).map((key) => [key, {}]))
  return Object.fromEntries(
    Object.entries(parts)
      .filter(([name]) => capabilities[name] !== undefined)
      .map(([name, keys]) => [name, only(capabilities[name], keys)]),
  )
}

const variantOf = (capabilities: JsonObject): string =>
  Object.keys(capabilities).length === 0 ? '' : JSON.stringify(capabilities)
