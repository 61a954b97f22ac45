import { readFileSync } from 'node:fs'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import t from 'tap'
import { Agent, fetch as undiciFetch } from 'undici'
import { parseDocument, type YAMLSeq } from 'yaml'
import { proves } from '../requirements.ts'
import { startRig } from '../rig/world.ts'

/** People who come with the ID token of their company's identity provider, and never see a page of ours. */
t.setTimeout(240_000)
const issuer = 'https://login.corp.example'
const idp = await generateKeyPair('ES256')
const stranger = await generateKeyPair('ES256')
const jwk = { ...(await exportJWK(idp.publicKey)), kid: 'corp-1', alg: 'ES256' }

function edit(yaml: string): string {
  const document = parseDocument(yaml)
  const add = (list: string, entry: unknown): void =>
    (document.get(list) as YAMLSeq).add(document.createNode(entry))
  add('clientWorkloads', { id: 'corp-agents', identities: [{ type: 'oidcIdTokenIssuer', value: issuer }] })
  add('trustProviders', {
    id: 'corp',
    oidcIdToken: { issuer, jwks: { keys: [jwk] } },
    matchRules: [
      { attribute: 'OidcCustom', key: 'department', value: 'research' },
      { attribute: 'OidcCustom', key: 'department', value: 'design' },
    ],
  })
  add('accessPolicies', {
    id: 'corp-in',
    client: 'corp-agents',
    server: 'gateway',
    trustProviders: ['corp'],
  })
  add('accessPolicies', {
    id: 'corp-weather',
    server: 'weather',
    trustProviders: ['corp'],
    credentialProvider: 'weather-key',
  })
  return document.toString({ lineWidth: 0 })
}

const rig = await startRig({ edit })
t.teardown(() => rig.end())
const dispatcher = new Agent({ connect: { ca: readFileSync(rig.caPath!) } })
t.teardown(() => dispatcher.destroy())

const meta = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': {},
  'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
}

async function call(claims: Record<string, unknown>, key = idp.privateKey) {
  const token = await new SignJWT({
    aud: rig.url,
    sub: 'eve',
    azp: 'corp-agent',
    department: 'research',
    ...claims,
  })
    .setProtectedHeader({ alg: 'ES256', kid: 'corp-1' })
    .setIssuer((claims.iss as string | undefined) ?? issuer)
    .setIssuedAt()
    .setExpirationTime('2m')
    .sign(key)
  const name = 'weather_get_weather'
  const response = await undiciFetch(rig.url, {
    method: 'POST',
    dispatcher,
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call',
      'mcp-name': name,
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name, arguments: { city: 'Basel' }, _meta: meta },
    }),
  })
  return { status: response.status, text: await response.text() }
}

t.test('a tool behind a credential, by the identity provider’s own token', async (t) => {
  proves(t, 'IDP-08')
  const answer = await call({})
  t.equal(answer.status, 200, answer.text)
  t.match(answer.text, /Basel: /)
  t.match((await call({ department: ['sales', 'design'] })).text, /Basel: /, 'any rule of one claim')
})

t.test('who is not let in', async (t) => {
  proves(t, 'IDP-08')
  const refused = async (
    what: string,
    claims: Record<string, unknown>,
    key?: Parameters<typeof call>[1],
  ): Promise<void> => {
    const { status, text } = await call(claims, key)
    t.ok(status === 401 || status === 403, `${what}: ${status}`)
    t.notMatch(text, /Basel: /)
  }
  await refused('another department', { department: 'sales' })
  await refused('no department', { department: undefined })
  await refused('another audience', { aud: 'https://other.example/mcp' })
  await refused('another key', {}, stranger.privateKey)
  await refused('another issuer', { iss: 'https://login.corp.example.evil.test' })
  await refused('our own issuer, signed by the company', { iss: new URL(rig.url).origin })
  await refused('who says to have signed in here', {
    department: 'sales',
    idp: 'local',
    client_workload: 'agents',
  })
})
