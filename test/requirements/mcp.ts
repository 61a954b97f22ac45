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
  },
} as const satisfies Area
