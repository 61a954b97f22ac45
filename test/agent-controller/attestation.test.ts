import { rm, writeFile } from 'node:fs/promises'
import type { RequestListener } from 'node:http'
import { get } from 'node:https'
import { join } from 'node:path'
import { type Test, test } from 'tap'
import { credentialsOf } from '../../services/agent-controller/attestation/aws.ts'
import { parseControllerEnv } from '../../services/agent-controller/settings.ts'
import { audienceHeader } from '../../shared/wire/attestation.ts'
import { issue, pkcs7, selfSigned } from '../attestation/authority.ts'
import {
  bodyOf,
  configWith,
  controllerId,
  reason,
  serve,
  startAttested,
  startIssuer,
} from '../attestation/rig.ts'
import type { Fleet } from '../control-plane/fleet/rig.ts'
import { proves } from '../requirements.ts'
import { ManualClock } from '../rig/manual-clock.ts'
import { tempDir, until } from '../sync/support.ts'
import { startTestController } from './support.ts'

const nowhere = 'http://127.0.0.1:1'
const auto = { source: 'auto', oidcToken: null, certificate: null, awsCredentials: null } as const

/** A controller whose metadata service is `metadata`, at the control plane of `fleet`. */
async function start(t: Test, fleet: Fleet, metadata: RequestListener | null, attestation = {}) {
  const url = metadata ? await serve(t, metadata) : nowhere
  return startTestController(
    t,
    await tempDir(t),
    {
      controllerId,
      deviceCode: null,
      controlPlaneUrl: `unix:${fleet.socket}`,
      attestation: { ...auto, ...attestation },
    },
    undefined,
    url,
  )
}

const healthy = async (started: Awaited<ReturnType<typeof start>>) => {
  await until(async () => (await started.health()).status === 200, 'Healthy')
  return started.health()
}

const instanceDocument = JSON.stringify({
  accountId: '123456789012',
  instanceId: 'i-0123456789abcdef0',
  region: 'us-east-2',
  pendingTime: '2026-11-01T00:00:00Z',
})

/** IMDSv2: a session token by PUT first, then everything with it. */
function ec2(rsa2048: string, role: string | null): { listener: RequestListener; asked: string[] } {
  const asked: string[] = []
  const answers: Record<string, string> = {
    '/latest/dynamic/instance-identity/document': instanceDocument,
    '/latest/dynamic/instance-identity/signature': 'AAAA',
    '/latest/dynamic/instance-identity/rsa2048': rsa2048.replace(/(.{64})/g, '$1\n'),
    '/latest/meta-data/placement/region': 'us-east-2',
  }
  if (role !== null) {
    answers['/latest/meta-data/iam/security-credentials/'] = role
    answers[`/latest/meta-data/iam/security-credentials/${role}`] = JSON.stringify({
      AccessKeyId: 'ASIAABCDEFGHIJKLMNOP',
      SecretAccessKey: 'role-secret',
      Token: 'role-session',
    })
  }
  return {
    asked,
    listener: (request, response) => {
      asked.push(`${request.method} ${request.url}`)
      if (request.method === 'PUT' && request.headers['x-aws-ec2-metadata-token-ttl-seconds']) {
        return response.end('imds-session')
      }
      const answer = answers[request.url ?? '']
      const allowed = request.headers['x-aws-ec2-metadata-token'] === 'imds-session'
      response.writeHead(!allowed ? 401 : answer === undefined ? 404 : 200).end(answer)
    },
  }
}

test('an EC2 instance registers by its identity document, found by itself', async (t) => {
  proves(t, 'AC-ATTEST-10')
  const aws = await selfSigned('CN=aws', { ca: false })
  const fleet = await startAttested(t, {
    provider: 'AWSMetadataService',
    certificates: [{ value: aws.pem }],
    matchRules: [{ attribute: 'AwsAccountId', value: '123456789012' }],
  })
  const started = await start(t, fleet, ec2(await pkcs7(instanceDocument, aws), null).listener)
  t.match(await healthy(started), {
    body: { status: 'Healthy', version: '1.2.3', gitSHA: 'abc', host: 'host-a' },
  })
  await until(() => fleet.controllers.find(controllerId)?.healthy, 'a health report')
  const enrol = await fetch(`${started.url}/v1/gateways/enrol`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ gatewayUrl: 'https://gw.example/mcp', hostname: 'h', version: '1' }),
  })
  t.match(await enrol.json(), { tenantId: 'acme', accessToken: String }, 'and enrols gateways')

  // The rules change: the token is taken back, and the machine is not registered any more.
  fleet.declare(
    configWith({
      provider: 'AWSMetadataService',
      certificates: [{ value: aws.pem }],
      matchRules: [{ attribute: 'AwsAccountId', value: '999999999999' }],
    }),
  )
  await t.rejects(started.controller.registrar.replaceToken(await started.controller.registrar.accessToken()))
  t.match(await started.health(), { status: 401, body: { status: 'Unregistered' } })
  t.match(reason(fleet), /AwsAccountId/)
  t.notMatch(started.text(), 'matches no rule', 'the machine does not hear why')
})

test('an instance with a role signs GetCallerIdentity; the credentials of the role stay there', async (t) => {
  proves(t, 'AC-ATTEST-10')
  const sent: string[] = []
  const stsUrl = await serve(t, async (request, response) => {
    sent.push(JSON.stringify(request.headers) + (await bodyOf(request)))
    response.end(
      '<R><Arn>arn:aws:sts::123456789012:assumed-role/gateway/i-0</Arn><UserId>A:i</UserId><Account>123456789012</Account></R>',
    )
  })
  const fleet = await startAttested(t, {
    provider: 'AWSRole',
    stsUrl,
    allowedNetworks: ['127.0.0.0/8'],
    matchRules: [{ attribute: 'AwsRoleARN', value: 'arn:aws:iam::123456789012:role/gateway' }],
  })
  const { listener, asked } = ec2('AAAA', 'gateway')
  const started = await start(t, fleet, listener)
  await healthy(started)
  t.ok(asked.includes('GET /latest/meta-data/iam/security-credentials/gateway'))
  t.match(sent[0], new RegExp(`SignedHeaders=[^"]*${audienceHeader}`))
  t.notMatch(sent.join('') + fleet.lines.join('') + started.text(), 'role-secret')

  const env = {
    AWS_ACCESS_KEY_ID: 'AKIAABCDEFGHIJKLMNOP',
    AWS_SECRET_ACCESS_KEY: 's',
    AWS_REGION: 'eu-west-1',
  }
  const awsCredentials = credentialsOf(env)
  t.ok(awsCredentials)
  t.equal(credentialsOf({ ...env, AWS_REGION: 'x.evil.example/' }), null)
  await healthy(await start(t, fleet, null, { awsCredentials }))
  t.match(
    sent.at(-1),
    /sts\.eu-west-1\.amazonaws\.com/,
    'credentials of the environment, without a metadata service',
  )
})

test('Google, Azure, a token in a file and a certificate: each becomes healthy', async (t) => {
  proves(t, 'AC-ATTEST-10')
  const { issuer, token } = await startIssuer(t)
  const google = await startAttested(t, {
    provider: 'GcpIdentityToken',
    issuer,
    allowedNetworks: ['127.0.0.0/8'],
    matchRules: [{ attribute: 'GcpSubject', value: 's' }],
  })
  const gcp: RequestListener = async (request, response) => {
    const url = new URL(request.url ?? '', nowhere)
    const right =
      request.headers['metadata-flavor'] === 'Google' &&
      url.pathname === '/computeMetadata/v1/instance/service-accounts/default/identity' &&
      url.searchParams.get('format') === 'full'
    if (!right) return response.writeHead(404).end()
    response.end(await token({ aud: url.searchParams.get('audience') }))
  }
  await healthy(await start(t, google, gcp))

  const root = await selfSigned('CN=Root')
  const leaf = await issue(root, 'CN=metadata.azure.com', { dns: 'metadata.azure.com' })
  const subscriptionId = '8d10da13-8125-4ba9-a717-bf7490507b3d'
  const azure = await startAttested(t, {
    provider: 'AzureMetadataService',
    certificates: [{ value: root.pem }],
    matchRules: [{ attribute: 'AzureSubscriptionId', value: subscriptionId }],
  })
  const time = (at: number) => {
    const [, yy, mm, dd, clock] = /^\d\d(\d\d)-(\d\d)-(\d\d)T(.{8})/.exec(new Date(at).toISOString()) ?? []
    return `${mm}/${dd}/${yy} ${clock} -0000`
  }
  const attested: RequestListener = async (request, response) => {
    const url = new URL(request.url ?? '', nowhere)
    if (request.headers.metadata !== 'true' || url.pathname !== '/metadata/attested/document') {
      return response.writeHead(400).end()
    }
    const document = {
      nonce: url.searchParams.get('nonce'),
      vmId: '02aab8a4-74ef-476e-8182-f6d2ba4166a6',
      subscriptionId,
      timeStamp: { createdOn: time(Date.now()), expiresOn: time(Date.now() + 3_600_000) },
    }
    const signature = await pkcs7(JSON.stringify(document), leaf, { bring: [leaf] })
    response.end(JSON.stringify({ encoding: 'pkcs7', signature }))
  }
  await healthy(await start(t, azure, attested))

  const dir = await tempDir(t)
  const oidc = await startAttested(t, {
    provider: 'OidcIdToken',
    issuer,
    audience: 'controllers',
    allowedNetworks: ['127.0.0.0/8'],
    matchRules: [{ attribute: 'OidcSubject', value: 's' }],
  })
  const path = join(dir, 'token')
  await writeFile(path, `${await token({ aud: 'controllers' })}\n`)
  await healthy(await start(t, oidc, null, { oidcToken: { path } }))

  const bare = await startAttested(t, {
    provider: 'CertificateSignedAttestation',
    certificates: [{ value: root.pem }],
    matchRules: [{ attribute: 'CertificateSan', value: 'rack-1.example' }],
  })
  const own = await issue(root, 'CN=rack-1', { dns: 'rack-1.example', kind: 'ec' })
  const certificate = await write(dir, 'rack', own)
  await healthy(await start(t, bare, null, { certificate }))

  const lost = await start(t, bare, null)
  const line = await until(
    () => lost.lines.find(({ code }) => code === 'controller.no_evidence'),
    'a warning',
  )
  t.match(line.detail, /PUT \/latest\/api\/token.*\/metadata\/attested\/document.*computeMetadata/)
  t.match(await lost.health(), { status: 401, body: { status: 'Unregistered' } })
})

async function write(dir: string, name: string, { pem, keys }: Awaited<ReturnType<typeof issue>>) {
  const der = await crypto.subtle.exportKey('pkcs8', keys.privateKey as never)
  const key = `-----BEGIN PRIVATE KEY-----\n${Buffer.from(der).toString('base64')}\n-----END PRIVATE KEY-----\n`
  const paths = { certificatePath: join(dir, `${name}.pem`), keyPath: join(dir, `${name}.key`) }
  await writeFile(paths.certificatePath, pem)
  await writeFile(paths.keyPath, key)
  return paths
}

const httpsGet = (port: number, path: string, ca: string, host = 'localhost') =>
  new Promise<{ status: number; text: string; serial: string }>((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port,
      path,
      ca,
      servername: 'localhost',
      headers: { host },
      agent: false as const,
    }
    get(options, (response) => {
      const { serialNumber } = (response.socket as import('node:tls').TLSSocket).getPeerCertificate()
      let text = ''
      response.on('data', (chunk) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text, serial: serialNumber }))
    }).on('error', reject)
  })

test('with TLS there is HTTPS alone, for API and metrics, and a renewed certificate is served', async (t) => {
  proves(t, 'AC-TLS-01')
  const dir = await tempDir(t)
  const root = await selfSigned('CN=Root')
  const first = await write(dir, 'tls', await issue(root, 'CN=localhost', { dns: 'localhost' }))
  const clock = new ManualClock(Date.now())
  const tls = {
    certChainPath: first.certificatePath,
    privateKeyPath: first.keyPath,
    address: '127.0.0.1',
    port: 0,
  }
  const { controller } = await startTestController(
    t,
    dir,
    { tls, controlPlaneUrl: `unix:${dir}/none` },
    clock,
  )
  const answer = await httpsGet(controller.port, '/health', root.pem)
  t.equal(answer.status, 401)
  t.match(JSON.parse(answer.text), {
    status: 'Unregistered',
    version: '1.2.3',
    gitSHA: 'abc',
    host: 'host-a',
  })
  await t.rejects(fetch(`http://127.0.0.1:${controller.port}/health`), 'no plain HTTP')
  t.match(await httpsGet(controller.metricsPort ?? 0, '/metrics', root.pem), {
    status: 200,
    text: /aembit_agent_controller_registration_status 0/,
  })
  t.not((await httpsGet(controller.port, '/health', root.pem, 'evil.example')).status, 401, 'a foreign Host')
  await write(dir, 'tls', await issue(root, 'CN=localhost', { dns: 'localhost' }))
  clock.advance(60_000)
  t.ok(
    await until(
      async () => (await httpsGet(controller.port, '/health', root.pem)).serial !== answer.serial,
      'the renewed certificate',
    ),
  )

  const env = { AEMBIT_TENANT_ID: 'acme', TLS_PEM_PATH: tls.certChainPath, TLS_KEY_PATH: tls.privateKeyPath }
  t.match(parseControllerEnv({ ...env, AEMBIT_HTTP_PORT_DISABLED: 'true' }), {
    ok: { tls: { address: '127.0.0.1', port: 5443 }, metrics: { port: 9091 } },
  })
  t.match(parseControllerEnv({ ...env, AEMBIT_HTTPS_LISTEN_ADDRESS: '0.0.0.0' }), {
    problems: [{ message: /any of which could enrol: set AEMBIT_ENROLMENT_SECRET_PATH/ }],
  })
  await rm(tls.privateKeyPath)
  t.match(parseControllerEnv(env), {
    problems: [{ key: 'TLS_KEY_PATH', message: /can not be read \(ENOENT\)/ }],
  })
})
