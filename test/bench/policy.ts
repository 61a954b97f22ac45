import { decideServer, decideTool, indexSnapshot, type Principal } from '../../shared/policy.ts'
import { snapshotSchema } from '../../shared/wire/snapshot.ts'

/**
 * `npm run bench:policy`: what a decision costs as a tenant grows. Small and large run in one process, so their ratio
 * is what counts. The large one has 10,000 policies; the listing has 5,000 tools.
 */
const principal: Principal = Object.freeze({
  issuer: 'https://gw.test',
  subject: 'ann@example.com',
  clientId: 'agent',
  clientWorkload: 'w',
  identityProvider: 'okta',
  claims: Object.freeze({ groups: ['engineering', 'leads'], level: 7, email: 'ann@example.com' }),
})

function build(count: number) {
  const servers = Array.from({ length: Math.min(count, 1_000) }, (_, at) => `s${at}`)
  return indexSnapshot(
    snapshotSchema.parse({
      format: 1,
      tenantId: 't',
      version: 1,
      issuedAt: '2026-11-23T10:00:00.000Z',
      gateway: { resource: 'https://g.test', audiences: ['x'], authorizationServers: ['x'], scopes: [] },
      resourceSetId: 'r',
      issuers: [],
      clientWorkloads: [],
      trustProviders: [
        {
          id: 'eng',
          name: 'eng',
          matchRules: [{ attribute: 'OidcCustom', key: 'groups', value: 'engineering' }],
        },
      ],
      servers: servers.map((id) => ({
        id,
        name: id,
        prefix: id,
        url: 'https://s.test',
        credential: 'none',
        allowedNetworks: [],
      })),
      accessConditions: [
        { type: 'CelCondition', id: 'cel', name: 'cel', expression: '!has(args.n) || args.n < 10.0' },
        {
          type: 'AembitTimeCondition',
          id: 'time',
          name: 'time',
          timezone: 'Europe/Berlin',
          schedule: [{ startTime: '00:00', endTime: '24:00', weekDay: { name: 'Monday' } }],
        },
      ],
      contentSecurity: [
        {
          type: 'AembitMcpToolAccessControl',
          id: 'acl',
          name: 'acl',
          mode: 'Block',
          visibility: 'Specific',
          visibilityEntries: ['delete_*', '*_admin'],
          invocation: 'Specific',
          invocationEntries: ['delete_*'],
        },
      ],
      policies: Array.from({ length: count }, (_, at) => ({
        id: `p${at}`,
        name: `p${at}`,
        version: 1,
        active: true,
        kind: 'gateway-to-server',
        serverWorkload: `s${at % servers.length}`,
        trustProviders: ['eng'],
        accessConditions: ['cel', 'time'],
        contentSecurity: ['acl'],
      })),
      revocations: [],
    }),
  )
}

/** ns of one `run`, the best of five batches. */
function measure(run: (turn: number) => unknown, turns: number): number {
  const batches = Array.from({ length: 6 }, () => {
    const began = process.hrtime.bigint()
    for (let turn = 0; turn < turns; turn++) run(turn)
    return Number(process.hrtime.bigint() - began) / turns
  })
  return Math.min(...batches.slice(1))
}

const now = Date.parse('2026-11-23T10:00:00Z')
const rows = [10, 100, 1_000, 10_000].map((count) => {
  const began = process.hrtime.bigint()
  const index = build(count)
  const indexed = Number(process.hrtime.bigint() - began) / 1e6
  const server = index.snapshot.servers[0]!
  const onServer = decideServer(index, principal, server.id, { now })
  const tool = { name: 'get_thing', annotations: { readOnlyHint: true } }
  const invocable = { control: 'invocable', tool, args: { n: 3 } } as const
  const tools = Array.from({ length: 5_000 }, (_, at) => ({ name: `tool_${at}` }))
  return {
    policies: count,
    'index, ms': Math.round(indexed),
    'reach a server, µs': measure(() => decideServer(index, principal, server.id, { now }), 20_000) / 1e3,
    'call a tool, µs':
      measure(() => decideTool(index, onServer, principal, server, invocable, { now }), 20_000) / 1e3,
    'list 5,000 tools, ms':
      measure(() => {
        for (const each of tools)
          decideTool(index, onServer, principal, server, { control: 'visible', tool: each }, { now })
      }, 5) / 1e6,
  }
})
console.table(
  rows.map((row) =>
    Object.fromEntries(Object.entries(row).map(([key, value]) => [key, Math.round(value * 100) / 100])),
  ),
)
