import { test } from 'tap'
import { proves } from '../../requirements.ts'
import type { Plane } from '../fleet/credential-rig.ts'
import { ask, bearerOf, digestOf, email, headerOf, planeWith } from './provider-rig.ts'
import { form, standIn, verifyOwn } from './stand-ins.ts'

const loopback = ['127.0.0.0/8']

test('an API key in a header or in the query, and HTTP Basic', async (t) => {
  proves(t, 'CRED-22')
  const query = await planeWith(t, { type: 'apikey', query: { name: 'api_key', value: { value: 'k1' } } })
  t.match(await ask(query), { kind: 'headers', headers: [], query: [{ name: 'api_key', value: 'k1' }] })
  t.match(await ask(query, 'ann', digestOf(await ask(query))), {
    kind: 'denied',
    by: 'provider',
    reason: 'credential_rejected',
  })
  const basic = await planeWith(t, {
    type: 'username-password',
    username: 'svc',
    password: { value: 'pä:ss' },
  })
  t.equal(headerOf(await ask(basic)), `Authorization: Basic ${Buffer.from('svc:pä:ss').toString('base64')}`)
})

test('client credentials: one token for all, in both styles, renewed ahead and after a refusal', async (t) => {
  proves(t, 'CRED-23')
  let count = 0
  const as = await standIn(t, () => ({
    body: { access_token: `token-${++count}`, token_type: 'Bearer', expires_in: 600 },
  }))
  const provider = {
    type: 'oauth-client-credential',
    tokenUrl: `${as.origin}/token`,
    clientId: 'id with space',
    clientSecret: { value: 's%cret' },
    scopes: ['a', 'b'],
    resource: 'https://server.example/mcp',
    customParameters: [{ key: 'audience', value: 'crm' }],
    allowedNetworks: loopback,
  }
  const plane = await planeWith(t, provider)
  as.delayMs = 20
  const answers = await Promise.all(Array.from({ length: 40 }, (_, at) => ask(plane, at % 2 ? 'ann' : 'bob')))
  t.same([...new Set(answers.map(bearerOf))], ['token-1'], 'asked once however many wait')
  t.same(form(as.seen[0]!.body), {
    audience: 'crm',
    grant_type: 'client_credentials',
    scope: 'a b',
    resource: 'https://server.example/mcp',
  })
  t.equal(
    as.seen[0]!.headers.authorization,
    `Basic ${Buffer.from('id+with+space:s%25cret').toString('base64')}`,
  )

  plane.clock.offset += 570_000
  t.equal(bearerOf(await ask(plane)), 'token-1', 'nobody waits for the renewal ahead of the end')
  while (as.seen.length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
  await t.resolves(until(async () => bearerOf(await ask(plane)) === 'token-2'))

  const held = await ask(plane)
  const again = await ask(plane, 'bob', digestOf(held))
  t.equal(bearerOf(again), 'token-3', 'refused: another one')
  t.match(await ask(plane, 'bob', digestOf(again)), {
    kind: 'denied',
    by: 'provider',
    reason: 'credential_rejected',
  })

  const inForm = await planeWith(t, { ...provider, credentialStyle: 'bodyForm' })
  await ask(inForm)
  t.match(form(as.seen.at(-1)!.body), { client_id: 'id with space', client_secret: 's%cret' })
  t.equal(as.seen.at(-1)!.headers.authorization, undefined)
})

test('a token service that is down for now, and one that says no', async (t) => {
  proves(t, 'CRED-48')
  const as = await standIn(t, () => ({
    body: { access_token: 'fine', token_type: 'Bearer', expires_in: 600 },
  }))
  const plane = await planeWith(t, {
    type: 'oauth-client-credential',
    tokenUrl: `${as.origin}/token`,
    clientId: 'id',
    clientSecret: { value: 'the-client-secret' },
    allowedNetworks: loopback,
  })
  as.instead = { status: 503, body: 'the-client-secret echoed' }
  await t.rejects(ask(plane), { code: 'credential.unavailable' })
  await t.rejects(ask(plane), { code: 'credential.unavailable' })
  t.equal(as.seen.length, 1, 'not asked again before its time')
  plane.clock.offset += 60_000
  as.instead = {
    status: 401,
    body: { error: 'invalid_client', error_description: 'the-client-secret echoed' },
  }
  t.match(await ask(plane), {
    kind: 'denied',
    by: 'provider',
    reason: 'Request failed with Unauthorized (invalid_client)',
  })
  plane.clock.offset += 60_000
  as.instead = { body: { access_token: 'has\nbreak', token_type: 'Bearer' } }
  await t.rejects(ask(plane), { code: 'credential.unavailable', detail: /another shape: access_token/ })
  plane.clock.offset += 60_000
  as.instead = undefined
  t.equal(bearerOf(await ask(plane)), 'fine')
  plane.clock.offset += 590_000
  as.instead = { status: 500, body: '' }
  t.equal(bearerOf(await ask(plane)), 'fine', 'the old one counts to its end')
  t.notMatch(plane.lines.join(''), /the-client-secret|fine/)
})

test('a token service in a private network that nobody allowed is not asked', async (t) => {
  proves(t, 'CRED-49')
  const as = await standIn(t, () => ({ body: {} }))
  const plane = await planeWith(t, {
    type: 'oauth-client-credential',
    tokenUrl: `${as.origin}/token`,
    clientId: 'id',
    clientSecret: { value: 's' },
  })
  await t.rejects(ask(plane), { code: 'credential.unavailable' })
  t.equal(as.seen.length, 0)
})

test('HashiCorp Vault: the JWT auth method', async (t) => {
  proves(t, 'CRED-26')
  const vault = await standIn(t, async ({ path, body }) => {
    const { jwt, role } = JSON.parse(body) as { jwt: string; role: string }
    const claims = await verifyOwn(jwt, plane.origin, 'vault')
    if (path !== '/v1/auth/teams/jwt/login' || role !== 'readers')
      return { status: 400, body: { errors: ['role'] } }
    return { body: { auth: { client_token: `hvs.${claims.sub}`, lease_duration: 3600, renewable: true } } }
  })
  const plane: Plane = await planeWith(t, {
    type: 'vaultClientToken',
    vaultHost: '127.0.0.1',
    vaultPort: Number(new URL(vault.origin).port),
    vaultTls: false,
    vaultPath: 'teams/jwt',
    vaultRole: 'readers',
    vaultNamespace: 'admin/eu',
    vaultForwarding: 'unconditional',
    subject: email,
    subjectType: 'dynamic',
    audience: 'vault',
    allowedNetworks: loopback,
  })
  t.match(await ask(plane), { headers: [{ name: 'X-Vault-Token', value: 'hvs.ann@example.com' }] })
  t.match(await ask(plane, 'bob'), { headers: [{ name: 'X-Vault-Token', value: 'hvs.bob@example.com' }] })
  t.match(vault.seen[0]!.headers, {
    'x-vault-namespace': 'admin/eu',
    'x-vault-request': 'true',
    'x-vault-forward': 'active-node',
  })
  await ask(plane)
  t.equal(vault.seen.length, 2, 'kept for its lease')
})

test('AWS: a role for a token of ours', async (t) => {
  proves(t, 'CRED-27')
  const expiration = new Date(Date.now() + 3_600_000)
  const sts = await standIn(t, async ({ body }) => {
    const asked = form(body)
    const { sub } = await verifyOwn(asked.WebIdentityToken!, plane.origin, 'sts.amazonaws.com')
    t.match(asked, {
      Action: 'AssumeRoleWithWebIdentity',
      Version: '2011-06-15',
      RoleArn: 'arn:aws:iam::123456789012:role/mcp',
      DurationSeconds: '3600',
      RoleSessionName: 'ann@example.com',
    })
    return {
      body: `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>${sub}</SubjectFromWebIdentityToken>
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/mcp/ann@example.com</Arn></AssumedRoleUser>
    <Credentials>
      <SessionToken>FQoGZXIvYXdz//session==</SessionToken>
      <SecretAccessKey>wJalrXUtnFEMI/K7MDENG/secret</SecretAccessKey>
      <Expiration>${expiration.toISOString().replace(/\.\d+/, '')}</Expiration>
      <AccessKeyId>ASIAEXAMPLE</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>`,
    }
  })
  const plane: Plane = await planeWith(t, {
    type: 'aws-sts-oidc',
    roleArn: 'arn:aws:iam::123456789012:role/mcp',
    subject: email,
    subjectType: 'dynamic',
    region: 'eu-central-1',
    service: 'execute-api',
    stsUrl: `${sts.origin}/`,
    allowedNetworks: loopback,
  })
  t.match(await ask(plane), {
    kind: 'aws-sigv4',
    accessKeyId: 'ASIAEXAMPLE',
    secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/secret',
    sessionToken: 'FQoGZXIvYXdz//session==',
    region: 'eu-central-1',
    service: 'execute-api',
  })
  sts.instead = {
    status: 403,
    body: '<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>',
  }
  t.match(await ask(plane, 'bob'), { kind: 'denied', reason: 'Request failed with Forbidden (AccessDenied)' })
})

test('Google Cloud: a federated token, and a service account for it', async (t) => {
  proves(t, 'CRED-50')
  const audience =
    '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/gateway'
  const google = await standIn(t, async ({ path, body, headers }) => {
    if (path === '/v1/token') {
      const asked = form(body)
      const { sub } = await verifyOwn(asked.subject_token!, plane.origin, `https:${audience}`)
      t.match(asked, {
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        audience,
        requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      })
      return {
        body: {
          access_token: `federated-${sub}`,
          issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
          token_type: 'Bearer',
          expires_in: 3600,
        },
      }
    }
    t.equal(path, '/v1/projects/-/serviceAccounts/mcp%40p.iam.gserviceaccount.com:generateAccessToken')
    t.equal(headers.authorization, 'Bearer federated-gateway')
    t.same(JSON.parse(body), { scope: ['https://www.googleapis.com/auth/cloud-platform'], lifetime: '1800s' })
    return {
      body: { accessToken: 'ya29.account', expireTime: new Date(Date.now() + 1_800_000).toISOString() },
    }
  })
  const provider = {
    type: 'gcp-identity-federation',
    audience,
    subject: 'gateway',
    lifetime: '30m',
    stsUrl: `${google.origin}/v1/token`,
    iamCredentialsUrl: google.origin,
    allowedNetworks: loopback,
  }
  let plane: Plane = await planeWith(t, provider)
  t.equal(bearerOf(await ask(plane)), 'federated-gateway')
  plane = await planeWith(t, { ...provider, serviceAccount: 'mcp@p.iam.gserviceaccount.com' })
  t.equal(bearerOf(await ask(plane, 'bob')), 'ya29.account')
})

test('Microsoft Entra: client credentials by federation', async (t) => {
  proves(t, 'CRED-51')
  const entra = await standIn(t, async ({ path, body }) => {
    const asked = form(body)
    const claims = await verifyOwn(asked.client_assertion!, plane.origin, 'api://AzureADTokenExchange')
    t.match(claims, { sub: 'gateway', alg: 'RS256' })
    t.match(asked, {
      grant_type: 'client_credentials',
      client_id: '11111111-2222-3333-4444-555555555555',
      scope: 'api://mcp/.default',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    })
    t.equal(path, '/contoso.example/oauth2/v2.0/token')
    return {
      body: { token_type: 'Bearer', expires_in: 3599, ext_expires_in: 3599, access_token: 'entra-token' },
    }
  })
  const plane: Plane = await planeWith(t, {
    type: 'azure-entra-federation',
    azureTenant: 'contoso.example',
    clientId: '11111111-2222-3333-4444-555555555555',
    subject: 'gateway',
    scope: 'api://mcp/.default',
    authorityUrl: entra.origin,
    allowedNetworks: loopback,
  })
  t.equal(bearerOf(await ask(plane)), 'entra-token')
})

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5))
}
