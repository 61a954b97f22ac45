import { decodeJwt } from 'jose'
import t from 'tap'
import { parseConfig } from '../../../services/control-plane/config/load.ts'
import { identifyClient } from '../../../shared/client-match.ts'
import type { ClientWorkload } from '../../../shared/wire/snapshot.ts'
import { proves } from '../../requirements.ts'
import { Browser } from './browser.ts'
import {
  authorizeUrl,
  callback,
  obtainTokens,
  pkce,
  refresh,
  register,
  signInAndAllow,
  startWorld,
  token,
} from './world.ts'

type Identity = ClientWorkload['identities'][number]
const workload = (id: string, ...identities: Identity[]) => ({ id, name: id, identities })
const scoped = (value: string): Identity => ({ type: 'oauthScope', value })
const redirect = (value: string): Identity => ({ type: 'oauthRedirectUri', value })

const config = {
  clientWorkloads: [
    { id: 'anyone', name: 'Anyone', identities: [redirect('*')] },
    { id: 'finance', name: 'Finance agents', identities: [redirect(callback), scoped('finance')] },
  ],
  accessPolicies: [{ id: 'in', client: 'finance', server: 'gateway' }],
}

t.test('oauthScope: the same agent is another workload where it asks for the scope', async (t) => {
  proves(t, 'CLIENT-01')
  const world = await startWorld({ config })
  t.teardown(() => world.close())
  const metadata = await (await fetch(`${world.origin}/.well-known/oauth-authorization-server`)).json()
  t.ok((metadata as { scopes_supported: string[] }).scopes_supported.includes('finance'))
  const client = await register(world)
  const plain = await signInAndAllow(
    new Browser(),
    authorizeUrl(world, client.client_id, pkce().challenge, { scope: 'mcp' }),
  )
  t.equal(plain.status, 403, 'without the scope it is anyone, whom no policy lets in')
  t.match(plain.text, /Anyone/)

  const browser = new Browser()
  const page = await browser.follow(
    await browser.get(
      authorizeUrl(world, client.client_id, pkce().challenge, { scope: 'finance offline_access' }),
    ),
  )
  const consent = await browser.follow(
    await browser.submit(page, '/password', {
      email: 'ann@example.com',
      password: 'correct horse battery staple',
    }),
  )
  t.match(consent.text, /scope <code>finance<\/code>/, 'the person sees it')

  const { tokens } = await obtainTokens(world, { client, browser, scope: 'finance offline_access' })
  const claims = decodeJwt(tokens.access_token)
  t.match(claims, { client_workload: 'finance' })
  t.same(String(claims.scope).split(' ').sort(), ['finance', 'mcp'])
  const again = await refresh(world, client.client_id, tokens.refresh_token!)
  t.match(decodeJwt(again.body.access_token), { client_workload: 'finance' }, 'after a refresh too')
  const narrowed = await token(world, {
    grant_type: 'refresh_token',
    refresh_token: again.body.refresh_token!,
    client_id: client.client_id,
    scope: 'mcp',
  })
  t.not(narrowed.status, 200, 'a token that lacks the scope is one of anyone')
  t.equal(narrowed.body.error, 'invalid_grant')
  const unknown = await signInAndAllow(
    browser,
    authorizeUrl(world, client.client_id, pkce().challenge, { scope: 'mcp payroll' }),
  )
  t.equal(unknown.status, 403, 'a scope that nobody configured says nothing')
})

t.test('oauthScope: a client alone', async (t) => {
  const world = await startWorld({
    config: {
      authorizationServer: {
        clients: [
          {
            clientId: 'bot',
            clientSecret: { value: 'a long enough secret' },
            grantTypes: ['client_credentials'],
          },
        ],
      },
      clientWorkloads: [{ id: 'bots', identities: [scoped('batch')] }],
      accessPolicies: [{ id: 'in', client: 'bots', server: 'gateway', subjects: ['client'] }],
    },
  })
  t.teardown(() => world.close())
  const authorization = `Basic ${Buffer.from('bot:a+long+enough+secret').toString('base64')}`
  const ask = (scope: string) =>
    token(world, { grant_type: 'client_credentials', scope, resource: world.resource }, { authorization })
  const { body } = await ask('mcp batch')
  t.match(decodeJwt(body.access_token), { client_workload: 'bots', scope: 'mcp batch' })
  t.match(await ask('mcp'), { status: 400, body: { error: 'unauthorized_client' } })
})

t.test('what tells clients apart: scope, claims of a token, the client’s own id', async (t) => {
  proves(t, 'CLIENT-02')
  const workloads = [
    workload('anyone', redirect('*')),
    workload('exact', redirect('https://agent.example/cb')),
    workload('scope', scoped('a'), scoped('b')),
    workload('both', redirect('https://agent.example/cb'), scoped('b')),
    workload('named', { type: 'aembitClientId', value: 'c-1' }),
    workload('research', { type: 'oidcIdToken', key: 'department', value: 'research' }),
    workload(
      'level',
      { type: 'oidcIdTokenIssuer', value: 'https://idp.example' },
      { type: 'oidcIdToken', key: 'level', value: '3' },
      { type: 'oidcIdToken', key: 'level', value: '4' },
    ),
    workload('crew', { type: 'oidcIdToken', key: 'groups', value: 'crew' }, scoped('crew')),
  ]
  const who = (ask: Partial<Parameters<typeof identifyClient>[1]>) =>
    identifyClient(workloads, { clientId: 'x', ...ask })?.id
  const at = { redirectUri: 'https://agent.example/cb' }
  t.equal(who({ ...at, scopes: ['mcp'] }), 'exact')
  t.equal(who({ ...at, scopes: ['mcp', 'a'] }), 'scope', 'a scope says more than where answers go')
  t.equal(who({ ...at, scopes: ['b'] }), 'both', 'and both more than either')
  t.equal(who({ ...at, scopes: ['a'], clientId: 'c-1' }), 'named')
  t.equal(who({ claims: { department: 'research' } }), 'research')
  t.equal(who({ claims: { department: ['sales', 'research'] } }), 'research', 'one of several values')
  t.equal(who({ claims: { department: 'Research' } }), undefined, 'with its case')
  t.equal(who({ claims: { department: { name: 'research' } } }), undefined)
  t.equal(who({ claims: Object.create({ department: 'research' }) }), undefined, 'own members alone')
  t.equal(who({ claims: { iss: 'https://idp.example', level: 4 } }), 'level', 'a number by its text')
  t.equal(who({ claims: { iss: 'https://other.example', level: 4 } }), undefined)
  t.equal(who({ claims: { groups: ['crew'], scope: 'x crew' } }), 'crew', 'scopes of the token')
  t.equal(who({ claims: { groups: ['crew'], scp: ['crew'] } }), 'crew', 'as Entra ID writes them')
  t.equal(who({ claims: { groups: ['crew'], scope: 'crewed' } }), undefined)
})

t.test('identities that can not be are told, with what to write', async (t) => {
  const problem = (identity: Record<string, unknown>): string => {
    try {
      parseConfig(
        JSON.stringify({
          tenant: { id: 'test' },
          gateway: { url: 'https://gw.example/mcp' },
          identityProviders: [{ id: 'local', type: 'directory' }],
          clientWorkloads: [{ id: 'a', identities: [identity] }],
        }),
        'test.yaml',
      )
      return ''
    } catch (error) {
      return String((error as { detail?: string }).detail)
    }
  }
  t.match(problem({ type: 'hostname', value: 'desk-1' }), /write sourceIPAddress/)
  t.match(problem({ type: 'oauthScope', value: 'mcp' }), /every agent has mcp/)
  t.match(problem({ type: 'oauthScope', value: 'two words' }), /one word of your own/)
  t.match(problem({ type: 'oidcIdToken', value: 'x' }), /key.*names the claim/)
  t.match(
    problem({ type: 'oidcIdTokenSubject', key: 'sub', value: 'x' }),
    /belongs to type oidcIdToken alone/,
  )
  t.equal(problem({ type: 'aembitClientId', value: 'c-1' }), '')
  t.equal(problem({ type: 'oidcIdToken', key: 'department', value: 'research' }), '')
})

t.test('a shared secret of an issuer whose tokens gateways verify is refused, with what to do', async (t) => {
  proves(t, 'TRUST-02')
  const problems = (oidcIdToken: Record<string, unknown>): string => {
    try {
      parseConfig(
        JSON.stringify({
          tenant: { id: 'test' },
          gateway: { url: 'https://gw.example/mcp' },
          identityProviders: [{ id: 'local', type: 'directory' }],
          trustProviders: [{ id: 'corp', oidcIdToken: { issuer: 'https://idp.example', ...oidcIdToken } }],
        }),
        'test.yaml',
      )
      return ''
    } catch (error) {
      return String((error as { detail?: string }).detail)
    }
  }
  const refused = problems({ symmetricKey: 'c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA==' })
  t.match(refused, /symmetricKey.*gateways verify these tokens.*write jwksUri, jwks or publicKey/)
  t.notMatch(refused, /c2VjcmV0/, 'the secret is not quoted')
  const jwksUri = 'https://idp.example/jwks'
  t.match(problems({ jwksUri, algorithms: ['HS256'] }), /none of RS256, ES256, PS256 and EdDSA/)
  t.match(problems({ jwks: { keys: [{ kty: 'oct', k: 'x' }] } }), /whoever verifies sign as well/)
  t.equal(problems({ jwksUri }), '')
})
