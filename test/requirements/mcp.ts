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
    'MCP-NOTICE-09': {
      source: 'services/proxy/mcp/notices, The rules',
      text: 'What servers tell and ask a legacy client waits for its next request where the client of the running one has left, or that one ends before it took all.',
    },
    'MCP-NOTICE-06': {
      source: 'services/proxy/mcp/notices, Threats',
      text: 'A stream ends with the token, a revocation, or a policy that admits the client no more.',
    },
    'MCP-NOTICE-07': {
      source: 'services/proxy/mcp/notices, What is missed',
      text: 'After a stream of a server was lost, whatever was watched there is told as changed.',
    },
    'MCP-NOTICE-08': {
      source: 'services/proxy/mcp/notices, threats',
      text: 'A server that ends every stream of notices at once is asked less and less often.',
    },
    'MCP-ASK-HELD-01': {
      source: 'services/proxy/mcp/notices, The rules',
      text: 'A question of a legacy server outside of calls waits, bounded, for the next request of its session in any worker.',
    },
    'MCP-SESSION-GONE-01': {
      source: 'MCP 2025-11-25 basic/transports, Session Management',
      text: 'A session that a server forgot, restarted or not, is opened anew by the gateway and the request answered, for every method.',
    },
    'MCP-SESSION-GONE-02': {
      source: 'MCP 2025-11-25 basic/transports, Session Management',
      text: 'A session at a server that nobody uses is ended, and never under a call that runs.',
    },
    'MCP-SESSION-GONE-03': {
      source: 'MCP 2025-11-25 basic/transports, Session Management',
      text: 'What still runs for a client that ended its session opens none at a server.',
    },
    'MCP-TASK-NOTICE-01': {
      source: 'MCP extension io.modelcontextprotocol/tasks, Status Notifications',
      text: 'A client that listens for its tasks is told of them under the ids it knows, of no other, and as far as policy lets their tools be used.',
    },
    'MCP-TASK-01': {
      source: 'MCP extension io.modelcontextprotocol/tasks, Polling and Input',
      text: 'The official client of the tasks extension settles a task through the gateway, its question included.',
    },
    'MCP-NOTICE-E2E-01': {
      source: 'MCP 2026-07-28 basic/patterns/subscriptions',
      text: 'Through every process: changes of servers and of policy are told, a replaced worker ends the stream in words, a client that goes leaves nothing.',
    },
    'MCP-PIN-E2E-01': {
      source: 'services/proxy/mcp/README, Tool pinning',
      text: 'Through every process: a definition that changes is held, told to the control plane, and served once an administrator approved it.',
    },
    'MCP-ROOTS-01': {
      source: 'MCP 2025-11-25 client/roots, Root List Changes',
      text: 'A client that announced it tells the legacy servers of its session through the gateway that its roots changed.',
    },
    'MCP-OPEN-04': {
      source: 'MCP 2025-11-25 basic/utilities/ping; MCP 2026-07-28 changelog',
      text: 'Methods of the other era, and of nobody, are unknown: ping and initialize to stateless clients, server/discover to others.',
    },
    'MCP-BRIDGE-01': {
      source: 'MCP 2026-07-28 basic/transports, Request Metadata',
      text: "A stateless server gets headers and _meta that the gateway made for it, never copies of the client's.",
    },
    'MCP-BRIDGE-02': {
      source: 'MCP 2026-07-28 schema, Result; MCP 2025-11-25 schema',
      text: "A result is put into the words of the client's era: resultType, ttlMs and cacheScope appear or go.",
    },
    'MCP-BRIDGE-03': {
      source: 'MCP 2026-07-28 basic/multi-round-trip',
      text: 'input_required of a server reaches a stateless client with its state sealed by the gateway.',
    },
    'MCP-BRIDGE-04': {
      source: 'MCP 2025-11-25 client/elicitation; MCP 2026-07-28 basic/multi-round-trip',
      text: 'input_required of a stateless server becomes live questions to a session-based client, in a bounded number of rounds.',
    },
    'MCP-BRIDGE-05': {
      source: 'MCP 2026-07-28 basic, MissingRequiredClientCapability (-32021)',
      text: 'A capability that a server misses is named to the client with status 400.',
    },
    'MCP-BRIDGE-06': {
      source: 'MCP 2025-11-25 client/elicitation, URL Mode (-32042)',
      text: "A server's wish to have a page visited becomes an input request of a stateless client.",
    },
    'MCP-BRIDGE-07': {
      source: 'MCP 2025-11-25 server/tools, Structured Content',
      text: 'Structured content that is no object is told to a session-based client as text, where the server told it no other way.',
    },
    'MCP-COMPLETE-01': {
      source: 'MCP 2025-11-25 server/utilities/completion; basic/lifecycle, Capability Negotiation',
      text: 'Completions are answered for every prompt and resource, by none for a server that has no completions.',
    },
    'MCP-TASK-02': {
      source: 'MCP 2025-11-25 basic/utilities/tasks, Capabilities',
      text: 'Tasks of 2025-11-25 are declared to nobody, and a wish for one reaches no server.',
    },
    'MCP-BATCH-01': {
      source: 'MCP 2025-03-26 basic/transports, Sending Messages to the Server; MCP 2025-06-18 changelog',
      text: 'A client of 2025-03-26, and of no other version, may send a bounded batch; each member is decided, recorded and answered by itself.',
    },
    'MCP-BATCH-02': {
      source: 'MCP 2025-03-26 basic, Batching',
      text: 'Batches of servers are read, as JSON and in events of streams.',
    },
    'MCP-PARKED-LOST-01': {
      source: 'services/proxy/mcp/rounds, A parked call',
      text: 'A call that is lost with its worker is told as lost where it may have changed something, and asked anew where it can not.',
    },
    'MCP-LOG-01': {
      source: 'MCP 2025-11-25 server/utilities/logging; MCP 2026-07-28 _meta logLevel',
      text: "The log level is the session's for session-based clients and the request's for stateless ones.",
    },
    'MCP-ASK-01': {
      source: 'MCP 2025-11-25 client/sampling, client/elicitation',
      text: "A session-based server's questions in mid-call reach a session-based client that declared it can answer.",
    },
    'MCP-ASK-02': {
      source: 'MCP 2025-11-25 basic/lifecycle, Timeouts; client/elicitation',
      text: 'While a question of a server is open, no other question, progress or age of the call ends it: the time that a client takes to answer counts towards no limit of the call.',
    },
    'MCP-CANCEL-01': {
      source: 'MCP 2025-11-25 basic/utilities/cancellation',
      text: 'notifications/cancelled of the client ends the call at the server.',
    },
    'MCP-CANCEL-02': {
      source: 'MCP 2026-07-28 basic/utilities/cancellation',
      text: 'A stateless client that goes away cancels its call; a session-based one that loses its connection does not: its call ends at the server, and is recorded so.',
    },
    'MCP-PROGRESS-01': {
      source: 'MCP 2025-11-25 basic/utilities/progress; basic/lifecycle, Timeouts',
      text: 'Progress keeps a call alive past its time-out, up to a hard limit; silence does not.',
    },
    'MCP-TIME-01': {
      source: 'MCP 2025-11-25 basic/lifecycle, Timeouts',
      text: 'An answer that arrived within the time-out counts, also where the gateway was too busy to read it by then.',
    },
    'MCP-STREAM-01': {
      source: 'MCP 2025-11-25 basic/transports, Streamable HTTP',
      text: 'A client that reads slowly holds the server back; nothing is buffered without bound.',
    },
    'MCP-STREAM-02': {
      source: 'MCP 2025-11-25 basic/transports, Sending Messages to the Server',
      text: 'Headers of a stream leave before its first event, and a client that goes away, before it or after, is noticed and holds nobody up.',
    },
    'MCP-STREAM-03': {
      source: 'WHATWG HTML, Server-sent events, 9.2.7 Authoring notes',
      text: 'A silent stream gets comments so that nothing on the way takes it for dead.',
    },
    'MCP-STREAM-04': {
      source: 'Architecture, The request path: back-pressure end to end',
      text: 'A client that does not read stops the sender.',
    },
    'MCP-LIST-01': {
      source: 'README: one server down never empties the catalogue',
      text: 'A server that hangs costs a listing its time-out and nothing more.',
    },
    'MCP-LIST-02': {
      source: 'MCP 2025-11-25 server/utilities/pagination',
      text: 'All pages of all servers come in pages of the gateway, by opaque cursors of its own.',
    },
    'MCP-LIST-03': {
      source: 'MCP 2025-11-25 server/tools, Tool Names',
      text: 'Names are prefixed by their server and stay legal; one server may go without a prefix.',
    },
    'MCP-LIST-04': {
      source: 'MCP 2026-07-28 basic/caching',
      text: 'A listing is asked once by all who wait, and anew when the server says that it changed.',
    },
    'MCP-LIST-05': {
      source: 'MCP 2025-11-25 basic/lifecycle, Capability Negotiation',
      text: 'What a server lists by what a client can do is kept apart.',
    },
    'MCP-LIST-06': {
      source: 'Seed reference: resources/read retrieves a resource by URI from the appropriate MCP server',
      text: 'A resource is read at the server that lists it, else whose template fits, else that knows it.',
    },
    'MCP-LIST-07': {
      source: 'MCP 2026-07-28 basic/caching, cacheScope private',
      text: "One person's listing is never another's.",
    },
    'MCP-LIST-08': {
      source: 'Documented failure behaviour: last good listing while a server is down',
      text: 'A server that goes down keeps its last listing, marked as old.',
    },
    'MCP-LIST-09': {
      source: 'Architecture, Credentials: tools stay listed',
      text: 'Definitions that a server gives to everyone are listed before an account is connected.',
    },
    'MCP-HOSTILE-01': {
      source: 'Architecture, Fan-out: isolates a failing server',
      text: 'A server that misbehaves fails its own call alone, within its time-out, with the code that belongs to it.',
    },
    'MCP-HOSTILE-02': {
      source: 'JSON-RPC 2.0, section 5',
      text: "A server's text is passed on as it is only where its id is beyond doubt.",
    },
    'MCP-HOSTILE-03': {
      source: 'Architecture: every bound holds',
      text: 'Whatever servers do wrong, each call ends as it has to, and nothing is left behind: calls, streams, connections, handles, files.',
    },
    'MCP-ERA-01': {
      source: 'MCP 2026-07-28 basic/versioning, Backward compatibility',
      text: 'A server that is put back to the older era is found out by the first call.',
    },
    'MCP-ERA-02': {
      source: 'MCP 2026-07-28 basic/versioning',
      text: 'A server that moves on to the newer era is found out when it forgets its session.',
    },
    'MCP-ERA-03': {
      source: 'MCP 2026-07-28 basic/authorization',
      text: '401 is no verdict about an era.',
    },
    'MCP-ERA-04': {
      source: 'MCP 2025-11-25 basic/lifecycle',
      text: 'A server that does not answer unknown methods is asked by initialize.',
    },
    'MCP-ERA-05': {
      source: 'MCP 2026-07-28 basic/versioning',
      text: 'A server that maps unknown methods to 404 is not taken for a stateless one for long.',
    },
    'MCP-ERA-06': {
      source: 'Architecture, Relay cheaply',
      text: 'The era is asked once for all who wait, and one session is opened.',
    },
    'MCP-ERA-07': {
      source: 'MCP 2025-11-25 basic/lifecycle, Version Negotiation',
      text: "A server that speaks no version of the gateway's is refused, and only the operator learns why.",
    },
    'MCP-SSE-01': {
      source: 'MCP 2024-11-05 basic/transports, HTTP with SSE',
      text: 'An address that moves between HTTP+SSE and streamable HTTP is found out by the next call.',
    },
    'MCP-STDIO-01': {
      source: 'MCP 2025-11-25 basic/transports, stdio',
      text: 'Local servers over stdio serve clients of both eras.',
    },
    'MCP-STDIO-02': {
      source: 'Architecture, trust borders',
      text: 'A process of a local server belongs to one session and never to two people.',
    },
    'MCP-STDIO-03': {
      source: 'services/stdio-adapter, threat model',
      text: "The person's credential is a variable of their process; a new one is a new process.",
    },
    'MCP-STDIO-04': {
      source: 'services/stdio-adapter, threat model',
      text: 'A message beyond the bound ends the server; floods of stderr and stdout do no harm.',
    },
    'MCP-STDIO-05': {
      source: 'Architecture: every bound holds',
      text: 'A process of a local server that made room is started again by the next request of its session, not by who only listens.',
    },
    'MCP-STDIO-06': {
      source: 'services/stdio-adapter, threat model',
      text: 'Of a local server there are never more processes than allowed, those that are about to end among them.',
    },
    'MCP-STDIO-07': {
      source: 'services/stdio-adapter, threat model',
      text: 'Room is made by the person who has the most processes of a local server.',
    },
    'MCP-STDIO-08': {
      source: 'services/stdio-adapter, threat model',
      text: "What one person's credential breaks is waited for by that person alone.",
    },
    'MCP-PEERS-01': {
      source: 'MCP 2025-11-25 and 2026-07-28',
      text: 'Clients of both SDKs work with servers of both eras.',
    },
    'MCP-PEERS-02': {
      source: 'MCP 2025-11-25 client/elicitation, client/sampling',
      text: 'Servers that others wrote ask clients that others wrote, in mid-call.',
    },
  },
} as const satisfies Area
