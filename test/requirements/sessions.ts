import type { Area } from './requirement.ts'

export const sessions = {
  title: 'Sessions',
  rows: {
    'SESSION-01': {
      source: 'MCP 2025-11-25 basic/transports, Session Management',
      text: 'A session id works for its own user alone.',
    },
    'SESSION-02': {
      source: 'Architecture: sessions are sealed, not stored',
      text: 'A restart with the same key keeps every session; another key ends it.',
    },
    'SESSION-03': {
      source: 'Documented surface: DELETE with the session id is 204, later use 404',
      text: 'DELETE ends a session once; afterwards it is unknown.',
    },
    'SESSION-04': {
      source: 'Environment reference: AEMBIT_MCP_SESSION_IDLE_TTL_SECS',
      text: 'Idle time counts from the last use at any worker, one that was replaced since among them, else from issue.',
    },
    'SESSION-05': {
      source: 'RFC 9110, 8.6 and 15.5.18: limits of header fields',
      text: 'An id stays small whatever the client declares.',
    },
    'SESSION-06': {
      source: 'MCP 2025-11-25 basic/transports, Session Management, 4',
      text: 'initialize neither needs nor minds a dead session id.',
    },
    'SESSION-07': {
      source: 'Architecture: fail closed',
      text: 'Without session keys a client is told to try again, never that its session is gone.',
    },
    'SESSION-08': {
      source: 'NIST SP 800-38D, key rotation',
      text: 'A box is sealed by the newest key and opened by any that still counts.',
    },
    'SESSION-09': {
      source: 'MCP 2025-11-25 basic/transports, Session Management, 3',
      text: 'An upstream session that is gone is opened again, unseen by the client.',
    },
    'SESSION-10': {
      source: 'Architecture: one upstream session per downstream session',
      text: "A client's session has its own at the server, ended with it.",
    },
    'SESSION-11': {
      source: 'MCP 2025-11-25 basic/transports, Session Management, 5',
      text: 'DELETE ends what runs in the session, and closing gives every upstream session back.',
    },
    'SESSION-12': {
      source: 'services/proxy/peers, The link between workers',
      text: 'What a session watches is known to every worker of the gateway, so that a killed one takes no subscription with it.',
    },
    'SESSION-13': {
      source: 'Issue: clients that forget Mcp-Session-Id are answered statelessly',
      text: 'A client without a session id is answered, for every method that needs nobody to tell later, in every session-based version.',
    },
    'SESSION-STORE-01': {
      source:
        'Architecture, The MCP core; documented Valkey record: upstream servers initialised, upstream session ids',
      text: 'Gateways with one session store go on with the sessions and subscriptions that another one opened at servers.',
    },
    'SESSION-STORE-02': {
      source: 'services/proxy, The session store',
      text: 'What the store holds of sessions at servers is sealed for the tenant, the session and the server.',
    },
    'SESSION-STORE-03': {
      source: 'MCP 2025-11-25 basic/transports, Session Management, 5',
      text: 'A session that is ended at one gateway is ended at the servers and at every gateway.',
    },
  },
} as const satisfies Area
