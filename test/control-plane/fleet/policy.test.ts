import { test } from 'tap'
import { compileSnapshot } from '../../../services/control-plane/policy/compile.ts'
import { identifyClient } from '../../../shared/client-match.ts'
import { proves } from '../../requirements.ts'
import { configOf, issuerKeys, yaml } from './rig.ts'

type Identity = { type: 'oauthRedirectUri' | 'oauthClientId' | 'cimdClientId'; value: string }
const workloads = (identities: Record<string, Identity[]>) => ({
  clientWorkloads: Object.entries(identities).map(([id, list]) => ({ id, name: id, identities: list })),
})
const redirect = (value: string): Identity[] => [{ type: 'oauthRedirectUri', value }]

const cases: [pattern: string, given: string, fits: boolean][] = [
  ['https://agent.example/callback', 'https://agent.example/callback', true],
  ['https://agent.example/callback', 'https://agent.example/callback/', false],
  ['https://agent.example/callback', 'https://agent.example/callback?x=1', false],
  ['https://agent.example/callback', 'https://agent.example:8443/callback', false],
  ['https://agent.example/callback', 'http://agent.example/callback', false],
  ['https://agent.example/callback', 'https://agent.example.evil.example/callback', false],
  ['https://agent.example/callback', 'https://agent.example@evil.example/callback', false],
  ['https://agent.example/callback', 'https://agent.example/callback#x', false],
  ['http://localhost/callback', 'http://localhost:33418/callback', true],
  ['http://localhost:1/callback', 'http://localhost:2/callback', true],
  ['http://127.0.0.1/callback', 'http://127.0.0.1:9/callback', true],
  ['http://[::1]/callback', 'http://[::1]:9/callback', true],
  ['http://localhost/callback', 'http://127.0.0.1/callback', false],
  ['http://localhost/callback', 'https://localhost:33418/callback', false],
  ['http://localhost/callback', 'http://localhost.evil.example/callback', false],
  ['http://localhost:*/callback', 'http://localhost:5/callback', true],
  ['https://agent.example:*/callback', 'https://agent.example:5/callback', true],
  ['https://agent.example:*/callback', 'https://agent.example:5/other', false],
  ['https://agent.example/cb/*', 'https://agent.example/cb/a/b', true],
  ['https://agent.example/cb/*', 'https://agent.example/cb', false],
  ['https://agent.example/cb/*', 'https://agent.example/cb/../admin', false],
  ['https://agent.example/cb/*', 'https://agent.example/cb/%2e%2e/admin', false],
  ['https://agent.example/cb/*', 'https://agent.example/cb%2fx', false],
  ['cursor://anysphere.cursor-mcp/*', 'cursor://anysphere.cursor-mcp/oauth/callback', true],
  ['cursor://anysphere.cursor-mcp/*', 'cursor://evil/oauth/callback', false],
  ['*', 'https://anything.example/x', true],
  ['*', 'not a uri', false],
]
for (const [pattern, given, fits] of cases) {
  test(`${pattern} ${fits ? 'fits' : 'does not fit'} ${given}`, async (t) => {
    const found = identifyClient(workloads({ one: redirect(pattern) }).clientWorkloads, {
      redirectUri: given,
      clientId: 'x',
    })
    t.equal(found?.id, fits ? 'one' : undefined)
  })
}

test('the identity that says most wins, wherever it stands in the file', async (t) => {
  proves(t, 'POLICY-04')
  const config = workloads({
    anyone: redirect('*'),
    path: redirect('https://agent.example/*'),
    longer: redirect('https://agent.example/cb/*'),
    exact: redirect('https://agent.example/cb/one'),
    listed: [{ type: 'oauthClientId', value: 'build-bot' }],
    document: [{ type: 'cimdClientId', value: 'https://agent.example/client.json' }],
  })
  const who = (redirectUri: string, clientId = 'random') =>
    identifyClient(config.clientWorkloads, { redirectUri, clientId })?.id
  t.equal(who('https://agent.example/cb/one'), 'exact')
  t.equal(who('https://agent.example/cb/two'), 'longer')
  t.equal(who('https://agent.example/three'), 'path')
  t.equal(who('https://other.example/'), 'anyone')
  t.equal(who('https://agent.example/cb/one', 'build-bot'), 'listed')
  t.equal(who('https://agent.example/cb/one', 'https://agent.example/client.json'), 'document')
  t.equal(identifyClient([], { redirectUri: 'https://a.example/', clientId: 'x' }), null)
})

test('compiling is deterministic, says which servers need a credential, and holds no secret', async (t) => {
  proves(t, 'POLICY-05')
  const source = yaml(
    '  - {id: keyed, url: https://keyed.example/mcp}\n  - {id: idle, url: https://idle.example/mcp}',
    `  - {id: keyed, server: keyed, credentialProvider: key}
  - {id: keyed-open, server: keyed, credentialProvider: open}
  - {id: idle, active: false, server: idle, credentialProvider: key}`,
  ).replace(
    '[{id: open, type: none}]',
    '\n  - {id: open, type: none}\n  - {id: key, type: apikey, header: {name: X-Key, value: {value: a-secret-key}}}',
  )
  const inputs = { version: 7, issuedAt: '2026-11-23T10:00:00.000Z', issuerKeys, revocations: [] }
  const text = JSON.stringify(compileSnapshot(configOf(source), inputs))
  t.equal(JSON.stringify(compileSnapshot(configOf(source), inputs)), text)
  t.notMatch(text, /a-secret-key/)
  const snapshot = JSON.parse(text)
  t.same(
    snapshot.servers.map((server: { id: string; credential: string }) => [server.id, server.credential]),
    [
      ['docs', 'none'],
      ['keyed', 'required'],
      ['idle', 'none'],
    ],
  )
  t.match(snapshot.policies[0], { kind: 'client-to-gateway', clientWorkload: 'agents', version: 1 })
  t.match(snapshot.policies[1], { kind: 'gateway-to-server', serverWorkload: 'docs' })
  t.match(snapshot.issuers, [
    { issuer: 'https://gw.example', algorithms: ['ES256', 'RS256'], jwks: issuerKeys },
  ])
  t.match(snapshot.gateway, {
    resource: 'https://gw.example/mcp',
    authorizationServers: ['https://gw.example'],
  })
})
