import { createHash, createHmac } from 'node:crypto'
import { AwsV4Signer } from 'aws4fetch'
import { test } from 'tap'
import { audienceHeader, callerIdentityBody } from '../../shared/wire/attestation.ts'
import { post } from '../control-plane/fleet/rig.ts'
import { proves } from '../requirements.ts'
import { type Issued, pkcs7, selfSigned } from './authority.ts'
import { bodyOf, controllerId, machine, reason, refusal, serve, startAttested } from './rig.ts'

const region = 'us-east-2'
const document = (more: Record<string, unknown> = {}) =>
  JSON.stringify({
    accountId: '123456789012',
    architecture: 'x86_64',
    availabilityZone: 'us-east-2b',
    billingProducts: null,
    imageId: 'ami-1',
    instanceId: 'i-0123456789abcdef0',
    instanceType: 't3.small',
    pendingTime: new Date(Date.now() - 3600_000).toISOString().replace(/\.\d+Z/, 'Z'),
    privateIp: '10.0.0.1',
    region,
    version: '2017-09-30',
    ...more,
  })

const signature = async (text: string, { keys }: Issued) =>
  Buffer.from(
    await crypto.subtle.sign('RSASSA-PKCS1-v1_5', keys.privateKey as never, new TextEncoder().encode(text)),
  ).toString('base64')

test('an instance identity document registers its instance, in both forms, for one key', async (t) => {
  proves(t, 'AC-ATTEST-01')
  const aws = await selfSigned('CN=aws us-east-2', { ca: false })
  const other = await selfSigned('CN=somebody', { ca: false })
  const fleet = await startAttested(t, {
    provider: 'AWSMetadataService',
    certificates: [{ value: aws.pem }],
    registerWithin: '2h',
    matchRules: [
      { attribute: 'AwsAccountId', value: '123456789012' },
      { attribute: 'AwsRegion', value: region },
    ],
  })
  const one = machine(fleet)
  const rsa2048 = async (text: string, signer = aws, attributes = true) => ({
    aws: { instanceIdentityDocumentRsa2048: await pkcs7(text, signer, { attributes }) },
  })
  t.match(await one.attest(() => rsa2048(document())), { status: 200 })
  t.match(await one.attest(() => rsa2048(document(), aws, false)), { status: 200 }, 'no signed attributes')
  t.equal(fleet.controllers.find(controllerId)?.instances[0]?.subject, '123456789012/i-0123456789abcdef0')
  const text = document()
  const plain = {
    aws: { instanceIdentityDocument: text, instanceIdentityDocumentSignature: await signature(text, aws) },
  }
  t.match(await one.attest(() => plain), { status: 200 }, 'document and signature')

  t.match(await machine(fleet).attest(() => plain), refusal, 'seen by somebody else')
  t.match(reason(fleet), /shown first by another key; .* delete its instance/)
  t.match(await one.attest(() => rsa2048(document(), other)), refusal)
  t.match(reason(fleet), /signed by none of the certificates/)
  t.match(
    await one.attest(() => ({ aws: { ...plain.aws, instanceIdentityDocument: text.replace('t3', 't9') } })),
    refusal,
  )
  t.match(await one.attest(() => rsa2048(document({ accountId: '999999999999' }))), refusal)
  t.match(reason(fleet), /AwsAccountId \(999999999999\) matches no rule/)
  const late = { instanceId: 'i-0123456789abcdef1', pendingTime: '2026-01-01T00:00:00Z' }
  t.match(await machine(fleet).attest(() => rsa2048(document(late))), refusal)
  t.match(reason(fleet), /launched too long ago/)
  t.match(await one.attest(() => ({ aws: { instanceIdentityDocumentRsa2048: 'AAAA' } })), refusal)
  t.match(reason(fleet), /does not parse/)

  const [instance] = fleet.controllers.find(controllerId)?.instances ?? []
  t.ok(fleet.controllers.forget(controllerId, instance?.kid ?? ''))
  t.match(await machine(fleet).attest(() => plain), { status: 200 }, 'after an administrator forgot the key')
})

/** SigV4 as STS checks it, written from its description. */
function signatureFits(headers: Record<string, string | undefined>, body: string, secret: string): boolean {
  const [, key = '', names = '', given = ''] =
    /Credential=([^,]+), SignedHeaders=([^,]+), Signature=(.+)$/.exec(headers.authorization ?? '') ?? []
  const [, day = '', scopeRegion = '', service = ''] = key.split('/')
  const hash = (text: string) => createHash('sha256').update(text).digest('hex')
  const hmac = (secretKey: string | Buffer, text: string) =>
    createHmac('sha256', secretKey).update(text).digest()
  const canonical = [
    'POST',
    '/',
    '',
    ...names.split(';').map((name) => `${name}:${headers[name]?.trim()}`),
    '',
    names,
    hash(body),
  ].join('\n')
  const scope = `${day}/${scopeRegion}/${service}/aws4_request`
  const toSign = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, hash(canonical)].join('\n')
  const signing = [scopeRegion, service, 'aws4_request'].reduce<Buffer>(hmac, hmac(`AWS4${secret}`, day))
  return hmac(signing, toSign).toString('hex') === given
}

test('a GetCallerIdentity that was signed for the challenge registers a role', async (t) => {
  proves(t, 'AC-ATTEST-02')
  let arn = 'arn:aws:sts::123456789012:assumed-role/gateway/i-0abc'
  let seen: Record<string, string | string[] | undefined> = {}
  const stsUrl = await serve(t, async (request, response) => {
    seen = request.headers
    const body = await bodyOf(request)
    if (body !== callerIdentityBody || !signatureFits(request.headers as never, body, 'secret')) {
      response
        .writeHead(403)
        .end('<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>')
      return
    }
    response.end(
      `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>${arn}</Arn><UserId>AROAX:i-0abc</UserId>` +
        '<Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>',
    )
  })
  const fleet = await startAttested(t, {
    provider: 'AWSRole',
    regions: [region],
    stsUrl,
    allowedNetworks: ['127.0.0.0/8'],
    matchRules: [
      { attribute: 'AwsAccountId', value: '123456789012' },
      { attribute: 'AwsRoleARN', value: 'arn:aws:iam::123456789012:role/gateway' },
    ],
  })
  const one = machine(fleet)
  const signed = async (
    audience: string,
    { secret = 'secret', at = new Date(), body = callerIdentityBody, where = region } = {},
  ) => {
    const { headers } = await new AwsV4Signer({
      method: 'POST',
      url: `https://sts.${where}.amazonaws.com/`,
      headers: { [audienceHeader]: audience },
      body,
      accessKeyId: 'AKIAABCDEFGHIJKLMNOP',
      secretAccessKey: secret,
      sessionToken: 'session',
      service: 'sts',
      region: where,
      datetime: at.toISOString().replace(/[:-]|\.\d{3}/g, ''),
    }).sign()
    const all = { ...Object.fromEntries(headers), 'x-evil': 'not passed on' }
    return { aws: { stsGetCallerIdentity: { headers: all as Record<string, string>, region: where } } }
  }
  t.match(await one.attest((audience) => signed(audience)), { status: 200 })
  t.equal(fleet.controllers.find(controllerId)?.instances[0]?.subject, arn)
  t.equal(seen.host, 'sts.us-east-2.amazonaws.com')
  t.equal(seen['x-evil'], undefined)

  const given = await one.challenge()
  const stolen = await signed(`aembit-control-plane/acme/${given.challenge}`)
  t.match(await machine(fleet).attest(() => stolen), refusal, 'with another key and challenge')
  t.match(reason(fleet), /made for another challenge/)
  t.match(await one.attest((audience) => signed(audience, { secret: 'guessed' })), refusal)
  t.match(reason(fleet), /STS answered 403 SignatureDoesNotMatch/)
  t.match(await one.attest((audience) => signed(audience, { at: new Date(Date.now() - 400_000) })), refusal)
  t.match(reason(fleet), /not of the last five minutes/)
  t.match(await one.attest((audience) => signed(audience, { body: 'Action=DeleteEverything' })), refusal)
  t.match(reason(fleet), /SignatureDoesNotMatch/, 'our body, whatever was signed')
  t.match(await one.attest((audience) => signed(audience, { where: 'eu-west-1' })), refusal)
  t.match(reason(fleet), /region eu-west-1 is not among/)
  const unsigned = await signed('x')
  const { headers } = unsigned.aws.stsGetCallerIdentity
  headers.authorization = (headers.authorization ?? '')
    .replace(`;${audienceHeader}`, '')
    .replace(`${audienceHeader};`, '')
  t.match(
    await one.attest((audience) => {
      headers[audienceHeader] = audience
      return unsigned
    }),
    refusal,
    'the audience is not among the signed headers',
  )
  t.match(reason(fleet), /does not cover x-aembit-audience/)
  arn = 'arn:aws:sts::123456789012:assumed-role/other/i-0abc'
  t.match(await one.attest((audience) => signed(audience)), refusal)
  t.match(reason(fleet), /AwsRoleARN \(.*role\/other\) matches no rule/)
  t.notMatch(fleet.lines.join(''), 'session', 'no token of AWS in the log')
})

test('machines share an id under attestation alone', async (t) => {
  proves(t, 'AC-ATTEST-08')
  const aws = await selfSigned('CN=aws', { ca: false })
  const fleet = await startAttested(t, {
    provider: 'AWSMetadataService',
    certificates: [{ value: aws.pem }],
    matchRules: [{ attribute: 'AwsAccountId', value: '123456789012' }],
  })
  const evidence = async (instanceId: string) => ({
    aws: { instanceIdentityDocumentRsa2048: await pkcs7(document({ instanceId }), aws) },
  })
  const a = await machine(fleet).attest(() => evidence('i-0123456789abcdef0'))
  const b = await machine(fleet).attest(() => evidence('i-0123456789abcdef1'))
  const report = { version: '1', hostname: 'h', uptimeSecs: 1 }
  for (const { body } of [a, b]) {
    t.match(await post(fleet.http, '/controller/v1/health', report, body.accessToken), { status: 204 })
  }
  t.match(fleet.controllers.find(controllerId), { healthy: true, instances: { length: 2 } })
  t.equal(fleet.controllers.deviceCode(controllerId), null, 'and takes no device code')

  const { id } = fleet.controllers.create('one machine')
  const register = async () => {
    const { code } = fleet.controllers.deviceCode(id)!
    const { publicKey } = machine(fleet)
    const body = { deviceCode: code, publicJwk: publicKey, version: '1', hostname: 'h' }
    t.match(await post(fleet.http, '/controller/v1/registrations', body), { status: 200 })
  }
  await register()
  await register()
  t.match(fleet.controllers.find(id)?.instances, { length: 1 }, 'the second takes the place of the first')
  t.match(await machine(fleet, id).attest(() => evidence('i-0123456789abcdef0')), refusal)
})
