/**
 * Every way in which the product says no, in one table.
 *
 * `status` is the HTTP status, `rpc` the JSON-RPC error code where the answer is a JSON-RPC one, `oauth` the
 * RFC 6750 §3.1 error of a WWW-Authenticate header, `retry` whether the same request may succeed later.
 * `text` goes out to a client; a Fault's `detail` and `cause` go to logs alone.
 *
 * Codes of our own stand outside -32768..-32000, which JSON-RPC and MCP reserve (MCP 2026-07-28, error codes).
 */
export interface FaultSpec {
  readonly status: number
  readonly text: string
  readonly retry: boolean
  readonly rpc?: number
  readonly oauth?: 'invalid_request' | 'invalid_token' | 'insufficient_scope'
}

const no = (status: number, text: string, more: Partial<FaultSpec> = {}): FaultSpec => ({
  status,
  text,
  retry: false,
  ...more,
})

export const faults = {
  // Who are you: always HTTP 401, before any other work.
  'token.missing': no(401, 'Send an access token in the Authorization header.'),
  'token.in_query': no(401, 'An access token in the query string is refused; use the Authorization header.', {
    oauth: 'invalid_request',
  }),
  'token.malformed': no(401, 'The access token is not a signed JWT of a kind this gateway accepts.', {
    oauth: 'invalid_token',
  }),
  'token.issuer_unknown': no(401, 'The access token comes from an issuer this gateway does not trust.', {
    oauth: 'invalid_token',
  }),
  'token.signature': no(401, 'The signature of the access token does not verify.', {
    oauth: 'invalid_token',
  }),
  'token.expired': no(401, 'The access token has expired.', { oauth: 'invalid_token', retry: true }),
  'token.audience': no(401, 'The access token was issued for another audience.', { oauth: 'invalid_token' }),
  'token.keys_unavailable': no(503, 'The keys of the token issuer can not be fetched right now.', {
    rpc: 5030,
    retry: true,
  }),
  'token.scope': no(403, 'The access token does not have the scope that this needs.', {
    rpc: 4030,
    oauth: 'insufficient_scope',
  }),
  'token.revoked': no(401, 'The access token has been revoked.', { oauth: 'invalid_token' }),

  // What was sent.
  'http.method': no(405, 'This endpoint answers POST and DELETE.'),
  'http.not_found': no(404, 'There is nothing at this path.'),
  'http.origin': no(403, 'This Origin is not allowed.', { rpc: -32600 }),
  'http.host': no(403, 'This Host is not served here.', { rpc: -32600 }),
  'http.upgrade': no(501, 'A connection can not be upgraded here.'),
  'http.malformed': no(400, 'This is not an HTTP request that this gateway understands.'),
  'http.protocol_version': no(
    400,
    'The MCP-Protocol-Version header names a version this gateway does not speak.',
    {
      rpc: -32600,
    },
  ),
  'http.content_type': no(415, 'Send application/json.', { rpc: -32600 }),
  'http.accept': no(406, 'Accept both application/json and text/event-stream.', { rpc: -32600 }),
  'http.body_too_large': no(413, 'The request body is larger than this gateway accepts.', { rpc: -32600 }),
  'http.body_timeout': no(408, 'The request body did not arrive in time.', { rpc: -32600, retry: true }),
  'http.busy': no(503, 'The gateway is at its limit of requests; try again shortly.', {
    rpc: 4290,
    retry: true,
  }),
  'rpc.parse': no(400, 'Parse error: the body is not valid JSON.', { rpc: -32700 }),
  'rpc.duplicate_key': no(400, 'Parse error: the body holds the same key twice in one object.', {
    rpc: -32700,
  }),
  'rpc.too_deep': no(400, 'Parse error: the body is nested deeper than this gateway accepts.', {
    rpc: -32700,
  }),
  'rpc.batch': no(
    400,
    'Batches are for MCP 2025-03-26 alone, of 64 messages at most; send one message per request.',
    { rpc: -32600 },
  ),
  'rpc.invalid': no(400, 'The body is not a JSON-RPC 2.0 message.', { rpc: -32600 }),
  'rpc.method': no(200, 'Method not found.', { rpc: -32601 }),
  'rpc.params': no(200, 'Invalid params.', { rpc: -32602 }),
  'mcp.version': no(400, 'This protocol version is not supported.', { rpc: -32022 }),
  'mcp.header_mismatch': no(400, 'The MCP headers do not agree with the body.', { rpc: -32020 }),
  'mcp.capability': no(400, 'The request needs a capability that the client did not declare.', {
    rpc: -32021,
  }),
  'mcp.meta_missing': no(400, 'The request lacks _meta fields that MCP 2026-07-28 requires.', {
    rpc: -32602,
  }),
  'question.expired': no(
    200,
    'The question of the server is no longer open: it was answered already, not answered in time, or lost in a restart. Call again without requestState.',
    { rpc: 4080, retry: true },
  ),
  'question.lost': no(
    200,
    'The gateway process that kept this call open has ended, and the call with it. Whether the server had done something before it asked is not known. Call again without requestState to start over.',
    { rpc: 4080, retry: true },
  ),
  'question.limit': no(
    200,
    'Too many calls wait for answers to questions of their servers; answer some first.',
    { rpc: 4290, retry: true },
  ),
  'session.missing': no(400, 'Send the Mcp-Session-Id that initialize returned.', { rpc: -32600 }),
  'session.keys_missing': no(503, 'The gateway has no session keys yet; try again shortly.', {
    rpc: 5030,
    retry: true,
  }),
  'session.store': no(503, 'The session store does not answer; try again shortly.', {
    rpc: 5030,
    retry: true,
  }),
  'session.unknown': no(404, 'This session has ended or never existed; send initialize again.', {
    rpc: 4004,
  }),

  // What you asked for.
  'tool.unknown': no(200, 'Unknown tool.', { rpc: -32602 }),
  'tool.held': no(
    200,
    'The definition of this tool changed and is held until an administrator approves it.',
    {
      rpc: 4030,
    },
  ),
  'prompt.unknown': no(200, 'Unknown prompt.', { rpc: -32602 }),
  'resource.unknown': no(200, 'Resource not found.', { rpc: -32002 }),
  'cursor.invalid': no(200, 'The cursor is not one that this gateway gave you.', { rpc: -32602 }),
  'listen.limit': no(200, 'There are too many subscriptions; end some first.', { rpc: 4290, retry: true }),
  'listen.ended': no(200, 'The subscription has ended; listen again to go on.', { rpc: 5030, retry: true }),
  'policy.denied': no(200, 'Policy does not allow this.', { rpc: 4030 }),
  'policy.gateway_denied': no(403, 'No policy lets this client and user use this gateway.', { rpc: 4030 }),
  'snapshot.none': no(503, 'The gateway has no policy yet; try again shortly.', { rpc: 5030, retry: true }),
  'snapshot.stale': no(503, 'The gateway could not confirm its policy for too long and refuses to guess.', {
    rpc: 5030,
    retry: true,
  }),

  'snapshot.refused': no(502, 'The control plane offered a policy that this gateway does not accept.'),

  // What lies behind us.
  'credential.authorization_required': no(200, 'Connect your account to use this server.', { rpc: 4031 }),
  'credential.unavailable': no(200, 'The credential for this server is not available right now.', {
    rpc: 5031,
    retry: true,
  }),
  'credential.refused': no(
    200,
    'The credential for this server was refused where it is made; tell an administrator.',
    { rpc: 5032 },
  ),
  'upstream.unreachable': no(200, 'The MCP server could not be reached.', { rpc: 5020, retry: true }),
  'upstream.timeout': no(200, 'The MCP server did not answer in time.', { rpc: 5040, retry: true }),
  'upstream.garbage': no(200, 'The MCP server answered with something that is not MCP.', { rpc: 5021 }),
  'upstream.rejected': no(200, 'The MCP server refused the request.', { rpc: 5022 }),
  'upstream.too_large': no(200, 'The answer of the MCP server is larger than this gateway accepts.', {
    rpc: 5023,
  }),
  'upstream.blocked': no(200, 'The address of the MCP server is not one this gateway may call.', {
    rpc: 5024,
  }),
  'passthrough.down': no(
    502,
    'The part of this service behind this page does not answer; try again shortly.',
    {
      retry: true,
    },
  ),
  'control_plane.unreachable': no(503, 'The control plane cannot be reached.', { retry: true }),
  'control_plane.rejected': no(502, 'The control plane refused the request.'),
  'request.invalid': no(400, 'The request does not have the documented shape.'),
  'machine.token': no(
    401,
    'The access token of this machine is unknown, revoked or expired; get a new one.',
    {
      retry: true,
    },
  ),
  'machine.assertion': no(401, 'The client assertion does not verify, is too old, or was used before.'),
  'device_code.refused': no(401, 'The device code is unknown, used or expired; ask for a new one.'),
  'attestation.refused': no(401, 'This machine is not accepted as that agent controller.'),
  'enrolment.refused': no(401, 'The enrolment secret is missing or wrong.'),
  'http.rate_limited': no(429, 'Too many requests; try again in a minute.', { retry: true }),
  'controller.unreachable': no(503, 'The agent controller cannot be reached.', { retry: true }),
  'controller.unregistered': no(503, 'The agent controller is not registered.', { retry: true }),
  'controller.no_evidence': no(503, 'This machine has nothing to prove what it is with.', { retry: true }),
  'controller.rejected': no(502, 'The agent controller refused the request.'),

  // Us.
  'config.invalid': no(500, 'The configuration is not valid.'),
  'listen.failed': no(500, 'An address could not be bound.'),
  'certificate.pending': no(503, 'The certificate of this gateway is not in order.', { retry: true }),
  'ipc.protocol': no(500, 'A process of the gateway speaks another protocol.'),
  'child.exited': no(500, 'A process of the gateway ended unexpectedly.', { retry: true }),
  'request.lost': no(
    502,
    'The process that had this request ended before it answered. The request may or may not have been carried out.',
    { retry: true },
  ),
  'drain.timeout': no(503, 'The gateway is restarting; the request did not finish in time.', {
    rpc: 5030,
    retry: true,
  }),
  internal: no(500, 'Internal error.', { rpc: -32603 }),
} as const satisfies Record<string, FaultSpec>

export type FaultCode = keyof typeof faults

/** What crosses a process border of a Fault. */
export interface FaultJson {
  code: FaultCode
  text: string
  detail?: string
}

/**
 * A refusal or failure with a code of the table. `detail` is for logs and operators: it may name hosts, files
 * and users, never a secret. `data` goes out to the client as the JSON-RPC error's `data`.
 */
export class Fault extends Error {
  readonly code: FaultCode
  readonly detail: string | undefined
  readonly data: Record<string, unknown> | undefined

  constructor(
    code: FaultCode,
    options: { detail?: string; data?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(faults[code].text, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'Fault'
    this.code = code
    this.detail = options.detail
    this.data = options.data
  }

  get spec(): FaultSpec {
    return faults[this.code]
  }

  toJSON(): FaultJson {
    return {
      code: this.code,
      text: this.message,
      ...(this.detail === undefined ? {} : { detail: this.detail }),
    }
  }

  /** Any thrown thing as a Fault; what is not one already becomes `fallback` with its message as detail. */
  static from(thrown: unknown, fallback: FaultCode = 'internal'): Fault {
    if (thrown instanceof Fault) return thrown
    const detail = thrown instanceof Error ? thrown.message : String(thrown)
    return new Fault(fallback, { detail, cause: thrown })
  }
}
