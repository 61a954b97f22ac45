import type { IncomingHttpHeaders } from 'node:http'
import type { Decision, PolicyIndex, Principal } from '../../shared/policy.ts'
import { authorizationChainClaim } from '../../shared/wire/event.ts'
import type { ServerWorkload } from '../../shared/wire/snapshot.ts'
import type { Exchange } from './exchange.ts'
import type { EventDetails } from './mcp/protocol/types.ts'
import type { SealedSession } from './session-contents.ts'

/**
 * The JSON of a workload event, put together from parts that many events share: an object and one stringify cost
 * 5 µs an event, two events a call, which is more than authentication. A test holds the outcome to the schema of
 * shared/wire/event.ts.
 */
export interface EventFrame {
  readonly eventType: 'mcp.request' | 'mcp.response'
  /** ISO 8601. */
  readonly timestamp: string
  readonly eventId: string
  /** Null where it did not come to one. */
  readonly decision: Decision | null
  readonly publicPort: number
  readonly serverAddress: (host: string) => string | undefined
  /** Of the branch to a server: the event by which its credential was given. */
  readonly authorization: string | undefined
  /** Members of application.mcp that only this kind of event has, without braces. */
  readonly mcp: string
}

/** Values that say nothing of a secret or a person. Every other header is there by name, its value as `***`. */
const harmless = new Set([
  'accept',
  'accept-encoding',
  'connection',
  'content-length',
  'content-type',
  'host',
  ':authority',
  'mcp-method',
  'mcp-protocol-version',
  'transfer-encoding',
  'user-agent',
])
const maxHeaders = 64
const maxValueChars = 256
const maxReasonChars = 1024

export function eventJson(x: Exchange, details: EventDetails, frame: EventFrame): string {
  const { server, outcome, reason, reasonCode, toolName } = details
  const { decision } = frame
  const target = server ? serverParts(server) : noServer
  x.trail ??= sharedMcp(x)
  return (
    `{"version":"1.0.0",${chainPart(x, frame.authorization)}"meta":{"timestamp":"${frame.timestamp}","eventType":"${frame.eventType}",` +
    `"connectionId":"${x.connectionId}","eventId":"${frame.eventId}","action":"forward",` +
    `"severity":"${outcome === 'Error' ? 'Error' : 'Info'}","policyId":${quoted(decision?.policyId ?? null)}` +
    `${x.index ? `,"resourceSetId":${quoted(x.index.snapshot.resourceSetId)}` : ''}},` +
    `"workload":{"client":${clientPart(x)},"server":${target.workload}},` +
    `"network":{"clientWorkloadIP":"${x.client.address}","clientWorkloadPort":${x.client.port},` +
    `"transportProtocol":"TCP",${networkPart(target, frame)},"proxyPort":${frame.publicPort}},` +
    `"outcome":{"result":"${outcome}"${optional('reason', reason, maxReasonChars)}${optional('reasonCode', reasonCode)}},` +
    `${decision ? decided(decision) : ''}` +
    `"application":{"mcp":{${frame.mcp},${x.trail}${target.mcp}${optional('mcpToolName', toolName)}}}` +
    `${details.contentSecurity ? `,"contentSecurity":${JSON.stringify(details.contentSecurity)}` : ''}}`
  )
}

/** Members of application.mcp for a request event: what was asked, of us or of a server. */
export function requestMcp(x: Exchange, server: ServerWorkload | null, mcpPath: string): string {
  const where = server
    ? serverParts(server).asked
    : `"uri":${quoted(mcpPath)},"headers":${redacted(x.req.headers)}`
  return `"httpMethod":"${x.req.method}","httpVersion":"${httpVersion(x)}",${where}`
}

/** Members of application.mcp for a response event. */
export function responseMcp(x: Exchange, httpResponseCode: number, durationMs: number): string {
  const duration = Math.max(0, Math.round(durationMs * 10) / 10)
  return `"httpVersion":"${httpVersion(x)}","headers":[],"httpResponseCode":${httpResponseCode},"durationMs":${duration}`
}

const decidedCache = new WeakMap<Decision, string>()

/** Most decisions that allow are one object. */
function decided(decision: Decision): string {
  let text = decidedCache.get(decision)
  if (text === undefined) {
    const { policyVersion, rule, reason } = decision
    text = `"decision":${JSON.stringify({ policyVersion, rule, reasonCode: reason })},`
    decidedCache.set(decision, text)
  }
  return text
}

interface ServerParts {
  readonly workload: string
  /** Null: a local server, or none. */
  readonly host: string | null
  readonly port: number | null
  readonly mcp: string
  readonly asked: string
}

const noServer: ServerParts = {
  workload: 'null',
  host: null,
  port: null,
  mcp: '',
  asked: '',
}
const serverCache = new WeakMap<ServerWorkload, ServerParts>()

function serverParts(server: ServerWorkload): ServerParts {
  let parts = serverCache.get(server)
  if (!parts) {
    const { id, name } = server
    const url = new URL(server.url)
    // A local server has no host: it is named by its path alone.
    const host = url.hostname === '' ? null : url.hostname
    const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
    parts = {
      workload: JSON.stringify({ id, name }),
      host,
      port: host === null ? null : port,
      mcp: `,"mcpServerName":${quoted(name)}`,
      asked: `"uri":${quoted(url.pathname)},"headers":[{"host":${quoted(url.host)}}]`,
    }
    serverCache.set(server, parts)
  }
  return parts
}

/** The address is that of the last connection to the host: a request is recorded before it has one. */
function networkPart({ host, port }: ServerParts, { serverAddress }: EventFrame): string {
  const address = host === null ? undefined : serverAddress(host.replace(/^\[|\]$/g, ''))
  return `"serverWorkloadHost":${quoted(host)},"serverWorkloadIP":${quoted(address ?? null)},"serverWorkloadPort":${port}`
}

const chains = new WeakMap<Principal, readonly string[]>()
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const maxChain = 100

/** The events by which the token was issued, and on a branch that of its credential (dropped where there are more than fit). */
function chainPart(x: Exchange, branch: string | undefined): string {
  const principal = x.verified?.principal
  if (!principal) return ''
  let issuance = chains.get(principal)
  if (!issuance) {
    // A foreign issuer knows none of our events.
    const claim = principal.direct ? undefined : principal.claims[authorizationChainClaim]
    issuance = (Array.isArray(claim) ? claim : []).filter((id) => typeof id === 'string' && uuid.test(id))
    chains.set(principal, issuance)
  }
  const all = branch === undefined ? issuance : [...issuance, branch]
  return all.length === 0 || all.length > maxChain ? '' : `"authorizationChain":["${all.join('","')}"],`
}

const clientCache = new WeakMap<PolicyIndex, Map<string, string>>()

function clientPart(x: Exchange): string {
  const id = x.verified?.principal.clientWorkload
  if (id === undefined || !x.index) return 'null'
  let parts = clientCache.get(x.index)
  if (!parts) {
    parts = new Map()
    for (const { id: each, name } of x.index.clients.values())
      parts.set(each, JSON.stringify({ id: each, name }))
    clientCache.set(x.index, parts)
  }
  return parts.get(id) ?? 'null'
}

/** The members of application.mcp that all events of an exchange share. */
function sharedMcp(x: Exchange): string {
  const { message, verified } = x
  const method = x.parsed && 'method' in message ? message.method : ''
  const id = x.parsed && 'id' in message ? message.id : undefined
  const email = verified?.principal.claims.email
  const user = verified && (typeof email === 'string' ? email : verified.subject)
  return (
    `"mcpMethod":${quoted(method)},"mcpSessionId":"${(x.session as SealedSession | null)?.uuid ?? ''}"` +
    optional('mcpProtocolVersion', x.protocolVersion || undefined) +
    optional('mcpRequestId', id === undefined || id === null ? undefined : String(id)) +
    optional('userId', user) +
    optional('oauthClientId', verified?.clientId)
  )
}

function redacted(headers: IncomingHttpHeaders): string {
  const named = Object.entries(headers)
    .slice(0, maxHeaders)
    .map(([name, value]) => ({ [name]: harmless.has(name) ? String(value).slice(0, maxValueChars) : '***' }))
  return JSON.stringify(named)
}

function httpVersion(x: Exchange): string {
  return x.req.httpVersionMajor === 2 ? 'HTTP/2' : `HTTP/${x.req.httpVersion}`
}

/** `,"key":"value"`, or nothing. Whoever chose the value, it is not long: sync takes lines of 64 KiB. */
function optional(key: string, value: string | undefined, chars = maxValueChars): string {
  return value === undefined
    ? ''
    : `,"${key}":${quoted(value.length <= chars ? value : value.slice(0, chars))}`
}

function quoted(text: string | null): string {
  return JSON.stringify(text)
}
