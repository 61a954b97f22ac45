import type { Clock } from '../../shared/clock.ts'
import type { Fault } from '../../shared/faults.ts'
import type { Principal } from '../../shared/policy.ts'
import type { Exchange } from './exchange.ts'
import type { EventDetails, McpCall, Recorder } from './mcp/protocol/types.ts'
import { type EventFrame, eventJson, requestMcp, responseMcp } from './record-event.ts'
import { gatewayDecision } from './steps/decide.ts'

export interface RecorderDeps {
  readonly append: (line: string) => void
  readonly clock: Clock
  /** A new UUID. */
  readonly random: () => string
  readonly mcpPath: string
  readonly publicPort: number
  /** To which address a host was last connected. */
  readonly serverAddress: (host: string) => string | undefined
  /** The event by which a credential for the server was given. */
  readonly authorization: (principal: Principal, serverId: string) => string | undefined
}

/** Refusals of people we do not know, a second: an unauthenticated flood must not become a flood of events. */
const strangersPerSecond = 20

/** Not worth an event: every OAuth flow starts with a request without a token, and GET on /mcp is how clients probe. */
const unrecorded = new Set(['token.missing', 'http.method'])

/** Turns calls and refusals into workload events. Never throws, never waits; contents of bodies are never seen here. */
export class EdgeRecorder implements Recorder {
  readonly #deps: RecorderDeps
  #second = 0
  #strangers = 0
  #time = 0
  #timestamp = ''
  /** Events of strangers that were not recorded. */
  suppressed = 0

  constructor(deps: RecorderDeps) {
    this.#deps = deps
  }

  request(call: McpCall, details: EventDetails): void {
    const x = call as Exchange
    this.#write(x, 'mcp.request', details, requestMcp(x, details.server, this.#deps.mcpPath))
  }

  response(call: McpCall, details: EventDetails & { httpResponseCode: number; durationMs: number }): void {
    const x = call as Exchange
    x.responses++
    this.#write(x, 'mcp.response', details, responseMcp(x, details.httpResponseCode, details.durationMs))
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

  #write(x: Exchange, eventType: EventFrame['eventType'], details: EventDetails, mcp: string): void {
    const decision = details.decision ?? (x.verified && x.index ? gatewayDecision(x) : null)
    const frame: EventFrame = {
      eventType,
      timestamp: this.#now(),
      eventId: this.#deps.random(),
      decision,
      publicPort: this.#deps.publicPort,
      serverAddress: this.#deps.serverAddress,
      authorization:
        details.server && x.verified
          ? this.#deps.authorization(x.verified.principal, details.server.id)
          : undefined,
      mcp,
    }
    this.#deps.append(eventJson(x, details, frame))
  }

  #now(): string {
    const time = this.#deps.clock.now()
    if (time !== this.#time) {
      this.#time = time
      this.#timestamp = new Date(time).toISOString()
    }
    return this.#timestamp
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
