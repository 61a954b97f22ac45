import type { Circumstances, Principal } from '../../../shared/policy.ts'
import { type AccessCondition, type Snapshot, snapshotSchema } from '../../../shared/wire/snapshot.ts'

/** Mulberry32: small, and the same on every machine. */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

const toolNames = [
  'get_a',
  'get_b',
  'list_a',
  'create_a',
  'delete_a',
  'delete_b',
  'purge',
  '',
  'ünïcode',
  '__proto__',
  'a'.repeat(200),
]
const patterns = [
  '*',
  '**',
  'get_*',
  '*_a',
  'delete_?',
  '[a-g]*',
  '[!a-g]*',
  'purge',
  'list_[ab]',
  '?*?',
  '*e*_*',
]
const groups = ['eng', 'sales', 'ops', 'constructor']
const addresses = ['192.0.2.1', '198.51.100.1', '10.0.0.1', '2001:db8::1', 'not-an-address', undefined]
const expressions = [
  '"eng" in user.groups',
  'has(user.claims.level) && user.claims.level > 3',
  'user.claims.level > 3',
  'user.groups.exists(g, g == "ops")',
  'tool.annotations.readOnlyHint',
  '!tool.annotations.destructiveHint || tool.name.startsWith("delete")',
  'tool.name.glob("*_a")',
  'has(args.n) && args.n < 10',
  'args.n < 10',
  '!has(args.list) || args.list.all(x, x != "bad")',
  'args.list[0] == 1 && tool.name != "purge"',
  'client.ip == "192.0.2.1"',
  'server.id != "s1"',
]
const odd: unknown[] = [
  undefined,
  null,
  0,
  7,
  -1,
  1e308,
  Number.NaN,
  '',
  'bad',
  true,
  [],
  {},
  [1, 2],
  ['bad'],
  { n: 3 },
  { __proto__: null },
  [[[]]],
  'eng',
  ['eng', 'ops'],
  [null],
  { constructor: 1 },
]

/** Worlds for the fuzz test: valid snapshots of every feature, and people, tools and arguments of every odd shape. */
export function createWorldMaker(seed: number) {
  const next = random(seed)
  const upTo = (n: number): number => Math.floor(next() * n)
  const pick = <T>(list: readonly T[]): T => list[upTo(list.length)] as T
  const some = <T>(list: readonly T[], most: number): T[] =>
    Array.from({ length: upTo(most + 1) }, () => pick(list))
  const chance = (p: number): boolean => next() < p
  const timeOf = (): string => `${String(upTo(24)).padStart(2, '0')}:${String(upTo(60)).padStart(2, '0')}`
  const days = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'] as const

  const condition = (id: string): AccessCondition => {
    const kind = upTo(4)
    if (kind === 0) {
      return {
        type: 'AembitTimeCondition',
        id,
        name: id,
        timezone: pick(['Europe/Berlin', 'America/New_York', 'Asia/Kathmandu', 'UTC']),
        schedule: days
          .filter(() => chance(0.7))
          .concat(['Monday'])
          .map((name) => ({
            startTime: timeOf(),
            endTime: chance(0.2) ? '24:00' : timeOf(),
            weekDay: { name },
          })),
      }
    }
    if (kind === 1) {
      return {
        type: 'AembitGeoIPCondition',
        id,
        name: id,
        locations: [{ alpha2Code: pick(['DE', 'US']), subdivisions: some(['BE', 'US-CA', 'DE-BY'], 2) }],
      }
    }
    return { type: 'CelCondition', id, name: id, expression: pick(expressions) }
  }

  return {
    snapshot: (): Snapshot => {
      const conditionIds = ['c0', 'c1', 'c2', 'c3', 'c4', 'c5']
      const controlIds = ['t0', 't1', 't2']
      const providerIds = ['p0', 'p1', 'p2']
      const servers = ['s0', 's1', 's2']
      return snapshotSchema.parse({
        format: 1,
        tenantId: 't',
        version: 1,
        issuedAt: '2026-11-23T10:00:00.000Z',
        gateway: {
          resource: 'https://g.test',
          audiences: ['https://g.test'],
          authorizationServers: ['https://g.test'],
          scopes: [],
        },
        resourceSetId: 'r',
        issuers: [],
        clientWorkloads: ['w0', 'w1'].map((id) => ({ id, name: id, identities: [] })),
        trustProviders: providerIds.map((id) => ({
          id,
          name: id,
          ...(chance(0.3) ? { identityProvider: pick(['okta', 'other']) } : {}),
          matchRules: some(groups, 2).map((value) => ({ attribute: 'OidcCustom', key: 'groups', value })),
        })),
        servers: servers.map((id) => ({
          id,
          name: id,
          prefix: id,
          url: `https://${id}.test/mcp`,
          credential: 'none',
          allowedNetworks: [],
        })),
        accessConditions: conditionIds.map(condition),
        contentSecurity: controlIds.map((id) => ({
          type: 'AembitMcpToolAccessControl',
          id,
          name: id,
          mode: pick(['Allow', 'Block']),
          visibility: pick(['All', 'Specific', 'Specific']),
          visibilityEntries: some(patterns, 4),
          invocation: pick(['All', 'Specific', 'Specific']),
          invocationEntries: some(patterns, 4),
          prompts: pick(['All', 'None']),
          resources: pick(['All', 'None']),
        })),
        policies: Array.from({ length: 8 }, (_, at) => {
          const gateway = at < 3
          return {
            id: `a${at}`,
            name: `a${at}`,
            version: 1,
            active: chance(0.9),
            kind: gateway ? 'client-to-gateway' : 'gateway-to-server',
            ...(gateway ? { clientWorkload: pick(['w0', 'w1']) } : { serverWorkload: pick(servers) }),
            ...(chance(0.1) ? { subjects: ['client'] } : {}),
            trustProviders: some([...providerIds, ...(chance(0.05) ? ['gone'] : [])], 1),
            accessConditions: some([...conditionIds, ...(chance(0.05) ? ['gone'] : [])], 2),
            contentSecurity: gateway ? [] : some([...controlIds, ...(chance(0.05) ? ['gone'] : [])], 2),
          }
        }),
        revocations: [],
        blocks: chance(0.1)
          ? [
              {
                kind: pick(['user', 'client', 'server']),
                value: pick(['ann', 'agent', 's0']),
                since: '2026-11-23T10:00:00.000Z',
              },
            ]
          : [],
      })
    },
    principal: (): Principal => ({
      issuer: 'https://g.test',
      subject: pick(['ann', 'bob']),
      clientId: 'agent',
      ...(chance(0.1) ? { kind: 'client' as const } : {}),
      clientWorkload: pick(['w0', 'w1', 'gone', undefined]),
      identityProvider: pick(['okta', 'other', undefined]),
      claims: Object.fromEntries(
        ['groups', 'level', 'aud', 'email', 'browser_ip']
          .filter(() => chance(0.8))
          .map((name) => [name, name === 'groups' && chance(0.7) ? some(groups, 3) : pick(odd)]),
      ),
    }),
    circumstances: (): Circumstances => ({
      now: Date.UTC(2026, upTo(12), 1 + upTo(28), upTo(24), upTo(60)),
      clientIp: pick(addresses),
      locate: chance(0.9)
        ? (address) =>
            address.startsWith('192')
              ? { country: 'DE', subdivisions: ['BE'] }
              : address.startsWith('198')
                ? { country: 'US', subdivisions: [] }
                : undefined
        : undefined,
    }),
    tool: () => ({
      name: pick(toolNames),
      annotations: chance(0.7) ? { readOnlyHint: pick(odd), destructiveHint: chance(0.5) } : pick(odd),
    }),
    args: (): unknown => (chance(0.7) ? { n: pick(odd), list: pick(odd) } : pick(odd)),
  }
}
