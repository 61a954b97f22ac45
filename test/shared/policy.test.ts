import t from 'tap'
import {
  decideGateway,
  decideServer,
  decideTool,
  indexSnapshot,
  type Principal,
} from '../../shared/policy.ts'
import { type AccessPolicy, type Snapshot, snapshotSchema } from '../../shared/wire/snapshot.ts'
import { proves } from '../requirements.ts'

const toServer = (id: string, more: Partial<AccessPolicy> = {}): AccessPolicy => ({
  id,
  name: id,
  version: 1,
  active: true,
  kind: 'gateway-to-server',
  serverWorkload: 'crm',
  trustProviders: [],
  ...more,
})

const snapshot = (policies: AccessPolicy[]): Snapshot =>
  snapshotSchema.parse({
    format: 1,
    tenantId: 'acme',
    version: 1,
    issuedAt: '2026-11-23T10:00:00.000Z',
    gateway: {
      resource: 'https://gw.test/mcp',
      audiences: ['https://gw.test/mcp'],
      authorizationServers: ['https://gw.test'],
      scopes: ['mcp'],
    },
    resourceSetId: 'ffffffff-ffff-ffff-ffff-ffffffffffff',
    issuers: [],
    clientWorkloads: [
      { id: 'agents', name: 'Agents', identities: [{ type: 'oauthRedirectUri', value: '*' }] },
    ],
    trustProviders: [
      {
        id: 'sales',
        name: 'Sales people',
        identityProvider: 'okta',
        matchRules: [
          { attribute: 'OidcCustom', key: 'groups', value: 'sales' },
          { attribute: 'OidcCustom', key: 'groups', value: 'sales-ops' },
          { attribute: 'OidcCustom', key: 'email_verified', value: 'true' },
        ],
      },
      { id: 'ann', name: 'Ann', matchRules: [{ attribute: 'OidcSubject', value: 'ann@acme.test' }] },
    ],
    servers: [
      {
        id: 'crm',
        name: 'CRM',
        prefix: 'crm',
        url: 'https://crm.test/mcp',
        credential: 'none',
        allowedNetworks: [],
      },
    ],
    policies,
    revocations: [],
  })

const ann: Principal = {
  issuer: 'https://gw.test',
  subject: 'ann@acme.test',
  clientId: 'c1',
  clientWorkload: 'agents',
  identityProvider: 'okta',
  claims: { aud: 'https://gw.test/mcp', groups: ['staff', 'sales-ops'], email_verified: true },
}

interface Case {
  name: string
  policies: AccessPolicy[]
  principal?: Partial<Principal>
  server?: string
  expect: [allow: boolean, reason: string, policyId: string | null]
}

const cases: Case[] = [
  { name: 'nothing allows', policies: [], expect: [false, 'no_policy', null] },
  { name: 'a policy without conditions allows', policies: [toServer('p')], expect: [true, 'allowed', 'p'] },
  {
    name: 'unknown server',
    policies: [toServer('p')],
    server: 'erp',
    expect: [false, 'server_unknown', null],
  },
  {
    name: 'inactive policy is named, not used',
    policies: [toServer('p', { active: false })],
    expect: [false, 'policy_inactive', 'p'],
  },
  {
    name: 'a mismatch is nearer than an inactive policy',
    policies: [toServer('off', { active: false }), toServer('p', { trustProviders: ['sales'] })],
    principal: { claims: {} },
    expect: [false, 'trust_provider_mismatch', 'p'],
  },
  {
    name: 'rules of one attribute are any-of, attributes are all-of',
    policies: [toServer('p', { trustProviders: ['sales'] })],
    expect: [true, 'allowed', 'p'],
  },
  {
    name: 'one attribute missing denies',
    policies: [toServer('p', { trustProviders: ['sales'] })],
    principal: { claims: { groups: ['sales'] } },
    expect: [false, 'trust_provider_mismatch', 'p'],
  },
  {
    name: 'another identity provider denies',
    policies: [toServer('p', { trustProviders: ['sales'] })],
    principal: { identityProvider: 'github' },
    expect: [false, 'trust_provider_mismatch', 'p'],
  },
  {
    name: 'every trust provider must attest',
    policies: [toServer('p', { trustProviders: ['sales', 'ann'] })],
    principal: { subject: 'bob@acme.test' },
    expect: [false, 'trust_provider_mismatch', 'p'],
  },
  {
    name: 'a dangling trust provider denies',
    policies: [toServer('p', { trustProviders: ['gone'] })],
    expect: [false, 'trust_provider_unknown', 'p'],
  },
  {
    name: 'a second policy may allow what the first does not',
    policies: [toServer('p', { trustProviders: ['gone'] }), toServer('q')],
    expect: [true, 'allowed', 'q'],
  },
  {
    name: 'claims inherited from Object.prototype do not count',
    policies: [toServer('p', { trustProviders: ['ann'] })],
    principal: { subject: 'constructor' },
    expect: [false, 'trust_provider_mismatch', 'p'],
  },
]

t.test('gateway-to-server decisions', async (t) => {
  proves(t, 'POLICY-01')
  for (const c of cases) {
    const index = indexSnapshot(snapshot(c.policies))
    const decision = decideServer(index, { ...ann, ...c.principal }, c.server ?? 'crm')
    t.same([decision.allow, decision.reason, decision.policyId], c.expect, c.name)
    t.notMatch(
      decision.explanation,
      /ann@acme|bob@acme|staff/,
      `${c.name}: the explanation names no user value`,
    )
  }
})

t.test('client-to-gateway decisions', async (t) => {
  proves(t, 'POLICY-02')
  const policy: AccessPolicy = {
    id: 'in',
    name: 'in',
    version: 3,
    active: true,
    kind: 'client-to-gateway',
    clientWorkload: 'agents',
    trustProviders: ['ann'],
  }
  const index = indexSnapshot(snapshot([policy, toServer('p')]))
  const allowed = decideGateway(index, ann)
  t.match(allowed, { allow: true, policyId: 'in', policyVersion: 3 })
  t.equal(decideGateway(index, { ...ann, clientWorkload: undefined }).reason, 'client_workload_unknown')
  t.equal(decideGateway(index, { ...ann, clientWorkload: 'other' }).reason, 'client_workload_unknown')
  t.equal(decideGateway(index, { ...ann, subject: 'bob@acme.test' }).reason, 'trust_provider_mismatch')
  t.equal(decideGateway(indexSnapshot(snapshot([])), ann).reason, 'no_policy')
})

t.test('a call that was let in before is decided without its arguments', async (t) => {
  const access = {
    type: 'AembitMcpToolAccessControl',
    id: 'acl',
    name: 'acl',
    prompts: 'All',
    resources: 'All',
  } as const
  const given = snapshot([toServer('p', { contentSecurity: ['acl'], accessConditions: ['small'] })])
  const index = indexSnapshot({
    ...given,
    contentSecurity: [
      {
        ...access,
        mode: 'Block',
        visibility: 'All',
        visibilityEntries: [],
        invocation: 'Specific',
        invocationEntries: ['drop'],
      },
    ],
    accessConditions: [
      { type: 'CelCondition', id: 'small', name: 'small', expression: 'has(args.n) && args.n < 10' },
    ],
  })
  const server = index.servers.get('crm')!
  const ask = (control: 'visible' | 'resumable', name: string) =>
    decideTool(index, decideServer(index, ann, 'crm'), ann, server, { control, tool: { name } }).reason
  t.equal(ask('resumable', 'find'), 'allowed', 'hidden, callable, its arguments were checked then')
  t.equal(ask('resumable', 'drop'), 'tool_blocked')
  t.equal(ask('visible', 'find'), 'tool_hidden')
})
