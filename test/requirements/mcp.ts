import type { Area } from './requirement.ts'

/** `lifecycle`, `basic/transports`, `server/tools` … are pages of the MCP specification of the revision named before them. */
export const mcp = {
  title: 'Model Context Protocol',
  rows: {
    'MCP-OPEN-01': {
      source: 'MCP 2025-11-25 basic/lifecycle, Version Negotiation',
      text: 'initialize is answered with the version of the client where the gateway speaks it, else with its newest legacy one.',
    },
    'MCP-OPEN-02': {
      source: 'MCP 2026-07-28 server/discover',
      text: 'server/discover names the versions and capabilities without a session before it.',
    },
    'MCP-OPEN-03': {
      source: 'MCP 2025-11-25 basic/lifecycle, Capability Negotiation',
      text: 'Change notices and subscriptions are advertised only where a stream can carry them.',
    },
    'MCP-NOTICE-01': {
      source: 'MCP 2026-07-28 basic/patterns/subscriptions, Acknowledgment and Receiving Notifications',
      text: 'A listen stream begins with its acknowledgement, and every message on it names the client’s own request.',
    },
    'MCP-NOTICE-02': {
      source: 'MCP 2026-07-28 basic/patterns/subscriptions, Notification Filter',
      text: 'A client hears what it asked for and nothing else, of every server that policy lets it see and of no other.',
    },
    'MCP-NOTICE-03': {
      source: 'MCP 2026-07-28 basic/patterns/subscriptions, Cancellation and Graceful Closure',
      text: 'A stream that the gateway ends closes with a result; one that the client ends leaves nothing at any server.',
    },
    'MCP-NOTICE-04': {
      source: 'MCP 2025-11-25 server/resources, Subscriptions',
      text: 'What a legacy client subscribed to is told on a stream of one of its own requests.',
    },
    'MCP-NOTICE-05': {
      source: 'MCP 2025-11-25 basic/transports, Listening for Messages from the Server',
      text: 'What a legacy server tells and asks on its GET stream reaches the clients of both eras as far as they can take it.',
    },
    'MCP-NOTICE-06': {
      source: 'services/proxy/mcp/notices, Threats',
      text: 'A stream ends with the token, a revocation, or a policy that admits the client no more.',
    },
    'MCP-NOTICE-07': {
      source: 'services/proxy/mcp/notices, What is missed',
      text: 'After a stream of a server was lost, whatever was watched there is told as changed.',
    },
  },
} as const satisfies Area
