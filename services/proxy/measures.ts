import { Meter } from '../../shared/metrics/meter.ts'
import { methodLabel } from '../../shared/metrics/table.ts'
import type { JsonRpcMessage } from './mcp/protocol/types.ts'

export type Outcome = 'success' | 'error'

/** What a worker counts; labels stand in the order of `shared/metrics/table.ts`. */
export class Measures {
  readonly #requests
  readonly #durations
  readonly #httpRequests
  readonly #answers
  readonly #bytes
  readonly #fanOuts
  readonly #asked
  readonly #failed
  readonly #timeouts
  readonly authFailures
  readonly sessionsCreated
  readonly sessionsRestored
  readonly sessionsReinitialized
  readonly jwksRefreshes
  readonly guardDecisions
  readonly httpGuardDecisions
  readonly credentialAnswers
  readonly eventsLost
  readonly #storeOperations
  readonly #storeDurations

  constructor(meter = new Meter()) {
    this.#requests = meter.counter('aembit_mcp_gateway_mcp_requests_processed_total')
    this.#durations = meter.histogram('aembit_mcp_gateway_mcp_request_duration_seconds')
    this.#httpRequests = meter.counter('aembit_mcp_gateway_upstream_mcp_server_http_requests_total')
    this.#answers = meter.counter('aembit_mcp_gateway_upstream_mcp_server_mcp_responses_total')
    this.#bytes = meter.histogram('aembit_mcp_gateway_upstream_mcp_server_response_bytes')
    this.#fanOuts = meter.histogram('aembit_mcp_gateway_upstream_mcp_server_fanout_duration_seconds')
    this.#asked = meter.counter('aembit_mcp_gateway_upstream_mcp_server_fanout_workloads_total')
    this.#failed = meter.counter('aembit_mcp_gateway_upstream_mcp_server_fanout_workloads_failed_total')
    this.#timeouts = meter.counter('aembit_mcp_gateway_upstream_mcp_server_fanout_timeouts_total')
    this.authFailures = meter.counter('aembit_mcp_gateway_auth_failures_total')
    this.sessionsCreated = meter.counter('aembit_mcp_gateway_sessions_created_total')
    this.sessionsRestored = meter.counter(
      'aembit_mcp_gateway_upstream_mcp_server_sessions_restored_count_total',
    )
    this.sessionsReinitialized = meter.counter(
      'aembit_mcp_gateway_upstream_mcp_server_sessions_reinitialized_count_total',
    )
    this.jwksRefreshes = meter.counter('aembit_mcp_gateway_jwks_refresh_attempts_total')
    this.guardDecisions = meter.counter('aembit_mcp_gateway_aidr_guard_decisions_total')
    this.httpGuardDecisions = meter.counter('aembit_mcp_gateway_http_guard_decisions_total')
    this.credentialAnswers = meter.counter('aembit_mcp_gateway_credential_answers_total')
    this.eventsLost = meter.counter('aembit_mcp_gateway_events_lost_total')
    this.#storeOperations = meter.counter('aembit_mcp_gateway_session_store_operations_total')
    this.#storeDurations = meter.histogram('aembit_mcp_gateway_session_store_operation_duration_seconds')
  }

  /** A message of a client was answered, `ms` after it came in. */
  processed(message: JsonRpcMessage, outcome: Outcome, ms: number): void {
    const method = labelOf(message)
    this.#requests.inc(method, outcome)
    this.#durations.observe(ms / 1000, method)
  }

  /** An HTTP request to a server is over; status 0: there was no answer. `message` undefined: a DELETE. */
  exchanged(message: JsonRpcMessage | undefined, status: number, bytes: number): void {
    const method = labelOf(message)
    this.#httpRequests.inc(method, status >= 200 && status < 300 ? 'success' : 'error')
    if (status > 0) this.#bytes.observe(bytes, method)
  }

  /** What a server said to a request, in a response of status 2xx. */
  answered(message: JsonRpcMessage | undefined, outcome: Outcome): void {
    this.#answers.inc(labelOf(message), outcome)
  }

  /** A listing that asked servers; one that was answered out of memory is none. */
  fannedOut(method: string, ms: number, asked: number, failed: number, timeouts: number): void {
    this.#fanOuts.observe(ms / 1000, method)
    this.#asked.add(asked, method)
    // Zeroes too, so that the series is there before the first failure.
    this.#failed.add(failed, method)
    this.#timeouts.add(timeouts, method, 'timeout')
  }

  stored(operation: string, outcome: Outcome, reason: string, ms: number): void {
    this.#storeOperations.inc(operation, outcome, reason)
    this.#storeDurations.observe(ms / 1000, operation, outcome, reason)
  }
}

function labelOf(message: JsonRpcMessage | undefined): string {
  if (message === undefined) return 'DELETE'
  return 'method' in message ? methodLabel(message.method) : 'response'
}
