import type { IncomingHttpHeaders } from 'node:http'
import type { Clock } from '../../shared/clock.ts'
import type { Fault } from '../../shared/faults.ts'
import type { Decision } from '../../shared/policy.ts'
import type { WorkloadEvent } from '../../shared/wire/event.ts'
import type { ServerWorkload } from '../../shared/wire/snapshot.ts'
import type { Exchange } from './exchange.ts'
import type { EventDetails, McpCall, Recorder } from './mcp/types.ts'
import type { SealedSession } from './sessions.ts'
import { gatewayDecision } from './steps/decide.ts'

export interface RecorderDeps {
  readonly append: (line: string) => void
  readonly clock: Clock
  /** A new UUID. */
  readonly random: () => string
  readonly mcpPath: string
  readonly publicPort: number
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
/** Refusals of people we do not know, a second: an unauthenticated flood must not become a flood of events. */
const strangersPerSecond = 20

/** Not worth an event: every OAuth flow starts with a request without a token, and GET on /mcp is how clients probe. */
const unrecorded = new Set(['token.missing', 'http.method'])

/** Turns calls and refusals into workload events. Never throws, never waits; contents of bodies are never seen here. */
export class EdgeRecorder implements Recorder {
  readonly #deps: RecorderDeps
  readonly #targets = new WeakMap<ServerWorkload, URL>()
  #second = 0
  #strangers = 0
  /** Events of strangers that were not recorded. */
  suppressed = 0

  constructor(deps: RecorderDeps) {
    this.#deps = deps
  }

  request(call: McpCall, details: EventDetails): void {
    const { server } = details
    const target = server ? this.#target(server) : undefined
    const x = call as Exchange
    this.#write(x, 'mcp.request', details, {
      httpMethod: x.req.method ?? 'POST',
      httpVersion: version(x),
      uri: target ? target.pathname : this.#deps.mcpPath,
      headers: target ? [{ host: target.host }] : redacted(x.req.headers),
    })
  }

  response(call: McpCall, details: EventDetails & { httpResponseCode: number; durationMs: number }): void {
    const x = call as Exchange
    x.responses++
    this.#write(x, 'mcp.response', details, {
      httpVersion: version(x),
      headers: [],
      httpResponseCode: details.httpResponseCode,
      durationMs: Math.round(details.durationMs * 10) / 10,
    })
  }

  /** A refusal by a step, or by the core before it recorded a response: one response event. */
  refused(x: Exchange, fault: Fault, httpResponseCode: number): void {
    if (x.responses > 0 || unrecorded.has(fault.code)) return
    if (!x.verified && !this.#admitStranger()) return
    const reasonCode = fault.data?.decision ?? fault.code
    this.response(x, {
      server: null,
      decision: null,
      outcome: 'Error',
      reason: fault.message,
      reasonCode: String(reasonCode),
      httpResponseCode,
      durationMs: this.#deps.clock.now() - x.startedAt,
    })
  }

  #write(
    x: Exchange,
    eventType: WorkloadEvent['meta']['eventType'],
    details: EventDetails,
    http: Pick<WorkloadEvent['application']['mcp'], 'httpVersion' | 'headers'> &
      Partial<WorkloadEvent['application']['mcp']>,
  ): void {
    const { server, outcome, reason, reasonCode } = details
    const target = server ? this.#target(server) : undefined
    const decision = details.decision ?? this.#gateway(x)
    const event: WorkloadEvent = {
      version: '1.0.0',
      meta: {
        timestamp: new Date(this.#deps.clock.now()).toISOString(),
        eventType,
        connectionId: x.connectionId,
        eventId: this.#deps.random(),
        action: 'forward',
        severity: outcome === 'Error' ? 'Error' : 'Info',
        policyId: decision?.policyId ?? null,
        ...(x.index ? { resourceSetId: x.index.snapshot.resourceSetId } : {}),
      },
      workload: { client: clientOf(x), server: server ? { id: server.id, name: server.name } : null },
      network: {
        clientWorkloadIP: x.client.address,
        clientWorkloadPort: x.client.port,
        transportProtocol: 'TCP',
        serverWorkloadHost: target?.hostname ?? null,
        serverWorkloadIP: null,
        serverWorkloadPort: target ? portOf(target) : null,
        proxyPort: this.#deps.publicPort,
      },
      outcome: {
        result: outcome,
        ...(reason ? { reason: cut(reason, 1024) } : {}),
        ...(reasonCode ? { reasonCode } : {}),
      },
      application: { mcp: { ...http, ...mcpOf(x), ...(server ? { mcpServerName: server.name } : {}) } },
    }
    if (details.toolName !== undefined) event.application.mcp.mcpToolName = cut(details.toolName)
    this.#deps.append(JSON.stringify(event))
  }

  #gateway(x: Exchange): Decision | null {
    return x.verified && x.index ? gatewayDecision(x) : null
  }

  #target(server: ServerWorkload): URL {
    let url = this.#targets.get(server)
    if (!url) {
      url = new URL(server.url)
      this.#targets.set(server, url)
    }
    return url
  }

  #admitStranger(): boolean {
    const second = Math.floor(this.#deps.clock.now() / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#strangers = 0
    }
    if (this.#strangers++ < strangersPerSecond) return true
    this.suppressed++
    return false
  }
}

/** The fields that every event of an exchange shares. */
function mcpOf(
  x: Exchange,
): Pick<WorkloadEvent['application']['mcp'], 'mcpMethod' | 'mcpSessionId'> &
  Partial<WorkloadEvent['application']['mcp']> {
  const { message, verified } = x
  const method = x.parsed && 'method' in message ? message.method : ''
  const id = x.parsed && 'id' in message ? message.id : undefined
  const email = verified?.principal.claims.email
  return {
    mcpMethod: method,
    mcpSessionId: (x.session as SealedSession | null)?.uuid ?? '',
    ...(x.protocolVersion === '' ? {} : { mcpProtocolVersion: x.protocolVersion }),
    ...(id === undefined || id === null ? {} : { mcpRequestId: cut(String(id)) }),
    ...(verified ? { userId: cut(typeof email === 'string' ? email : verified.subject) } : {}),
    ...(verified ? { oauthClientId: cut(verified.clientId) } : {}),
  }
}

function clientOf(x: Exchange): { id: string; name: string } | null {
  const id = x.verified?.principal.clientWorkload
  const workload = id === undefined ? undefined : x.index?.clients.get(id)
  return workload ? { id: workload.id, name: workload.name } : null
}

function version(x: Exchange): string {
  return x.req.httpVersionMajor === 2 ? 'HTTP/2' : `HTTP/${x.req.httpVersion}`
}

/** Whoever chose it, no part of an event is long: sync takes lines of 64 KiB. */
function cut(text: string, chars = maxValueChars): string {
  return text.length <= chars ? text : text.slice(0, chars)
}

function portOf(url: URL): number {
  return url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
}

function redacted(headers: IncomingHttpHeaders): Record<string, string>[] {
  return Object.entries(headers)
    .slice(0, maxHeaders)
    .map(([name, value]) => ({ [name]: harmless.has(name) ? cut(String(value)) : '***' }))
}
