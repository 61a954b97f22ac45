import { readFileSync } from 'node:fs'
import t from 'tap'
import { explainDecision, explainRequestSchema } from '../../../services/control-plane/api/explain.ts'
import { parseConfig } from '../../../services/control-plane/config/load.ts'
import { compileSnapshot } from '../../../services/control-plane/policy/compile.ts'
import { indexSnapshot } from '../../../shared/policy.ts'
import { proves } from '../../requirements.ts'

const sample = /```yaml\n# policy sample\n([\s\S]*?)```/.exec(
  readFileSync(new URL('../../../docs/policy.md', import.meta.url), 'utf8'),
)?.[1]

t.test('the sample of the documentation loads, and says why Ann can not do something', async (t) => {
  proves(t, 'POLICY-06')
  const config = parseConfig(
    `tenant: {id: acme}
gateway: {url: https://gw.example.com}
identityProviders: [{id: local, type: directory}]
clientWorkloads: [{id: claude, identities: [{type: oauthRedirectUri, value: '*'}]}]
serverWorkloads: [{id: issues, url: https://issues.example.com/mcp}]
credentialProviders: [{id: open, type: none}]
${sample?.replace('accessPolicies:\n', 'accessPolicies:\n  - {id: in, client: claude, server: gateway}\n')}`,
    'policy.md',
  )
  const snapshot = compileSnapshot(config, {
    version: 7,
    issuedAt: '2026-11-23T10:00:00.000Z',
    issuerKeys: { keys: [] },
    revocations: [],
  })
  t.notMatch(JSON.stringify(snapshot), /change-this-token/, 'gateways get no secret of a guard')
  const applied = { config, snapshot, index: indexSnapshot(snapshot), jws: '', etag: '' }
  const ask = (more: object) =>
    explainDecision(
      applied,
      explainRequestSchema.parse({
        user: 'ann@example.com',
        claims: { groups: ['engineering'] },
        clientWorkload: 'claude',
        tool: 'issues_create',
        clientIp: '192.0.2.1',
        at: '2026-11-23T10:00:00+01:00',
        ...more,
      }),
      undefined,
      (clientIp) => ({ now: 0, clientIp, locate: () => ({ country: 'DE', subdivisions: [] }) }),
    )
  t.match(ask({}), {
    snapshotVersion: 7,
    server: 'issues',
    tool: 'create',
    decision: {
      allow: false,
      reason: 'cel_mismatch',
      rule: 'accessCondition:leads-write',
      policyId: 'issues-for-engineering',
    },
    steps: [
      { stage: 'gateway', allow: true, policyId: 'in' },
      { stage: 'server', allow: true, policyId: 'issues-for-engineering' },
      { stage: 'tool', allow: false, decisive: true },
    ],
  })
  const lead = { claims: { groups: ['engineering', 'leads'] } }
  t.match(ask(lead), { decision: { allow: true } })
  t.match(ask({ ...lead, arguments: { project: 'HR' } }), {
    decision: { rule: 'accessCondition:own-projects' },
  })
  t.match(ask({ ...lead, tool: 'issues_delete_all' }), { decision: { reason: 'tool_blocked' } })
  t.match(ask({ ...lead, at: '2026-11-23T20:00:00+01:00' }), { decision: { reason: 'time_mismatch' } })
  t.match(ask({ ...lead, tool: 'nowhere_create' }), { decision: { reason: 'server_unknown' } })
  t.equal(ask({ claims: undefined }), undefined, 'nothing is known of who never signed in')
})
