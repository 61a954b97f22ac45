import { AwsV4Signer } from 'aws4fetch'
import { z } from 'zod'
import {
  audienceHeader,
  callerIdentityBody,
  type Evidence,
  stsHost,
} from '../../../shared/wire/attestation.ts'
import type { Metadata } from './metadata.ts'

type Aws = NonNullable<Evidence['aws']>
export interface AwsCredentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string | undefined
}

const roleSchema = z.object({
  AccessKeyId: z.string().min(16),
  SecretAccessKey: z.string().min(1),
  Token: z.string().min(1),
})
const regionPattern = /^[a-z]{2}(-[a-z]+)+-\d$/

/** The instance identity document by IMDSv2, as it stands, with both of its RSA signatures. */
async function readDocument(get: (path: string) => Promise<string>): Promise<Aws> {
  const base = '/latest/dynamic/instance-identity'
  const [document, signature, rsa2048] = await Promise.all([
    get(`${base}/document`),
    get(`${base}/signature`),
    get(`${base}/rsa2048`),
  ])
  return {
    instanceIdentityDocument: document,
    instanceIdentityDocumentSignature: signature.replace(/\s/g, ''),
    instanceIdentityDocumentRsa2048: rsa2048.replace(/\s/g, ''),
  }
}

/** A GetCallerIdentity, signed and not sent: the control plane sends it, and learns from STS who signed it. */
export async function signCallerIdentity(
  credentials: AwsCredentials,
  region: string,
  audience: string,
  now: number,
): Promise<NonNullable<Aws['stsGetCallerIdentity']>> {
  const signer = new AwsV4Signer({
    method: 'POST',
    url: `https://${stsHost(region)}/`,
    headers: { [audienceHeader]: audience },
    body: callerIdentityBody,
    accessKeyId: credentials.accessKeyId,
    secretAccessKey: credentials.secretAccessKey,
    ...(credentials.sessionToken === undefined ? {} : { sessionToken: credentials.sessionToken }),
    service: 'sts',
    region,
    datetime: new Date(now).toISOString().replace(/[:-]|\.\d{3}/g, ''),
  })
  const { headers } = await signer.sign()
  const sent = ['authorization', 'x-amz-date', 'x-amz-security-token', audienceHeader]
  return {
    headers: Object.fromEntries(
      sent.flatMap((name) => (headers.has(name) ? [[name, headers.get(name) ?? '']] : [])),
    ),
    region,
  }
}

/** Credentials of AWS's own variables, for a machine that is not an instance with a role. */
export function credentialsOf(
  env: Readonly<Record<string, string | undefined>>,
): { credentials: AwsCredentials; region: string } | null {
  const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: token } = env
  const region = env.AWS_REGION ?? env.AWS_DEFAULT_REGION
  if (!id || !secret || !region || !regionPattern.test(region)) return null
  return {
    credentials: { accessKeyId: id, secretAccessKey: secret, sessionToken: token || undefined },
    region,
  }
}

/**
 * What an EC2 instance can show: its identity document, and its role's signature where it has a role. Throws an Error
 * where there is no IMDSv2.
 */
export async function readAws(metadata: Metadata, audience: string, now: number): Promise<Aws> {
  const session = await metadata.get(
    '/latest/api/token',
    { 'x-aws-ec2-metadata-token-ttl-seconds': '60' },
    'PUT',
  )
  const get = (path: string): Promise<string> =>
    metadata.get(path, { 'x-aws-ec2-metadata-token': session.trim() })
  const [document, role] = await Promise.all([readDocument(get), signAsRole(get, audience, now)])
  return { ...document, ...(role ? { stsGetCallerIdentity: role } : {}) }
}

async function signAsRole(
  get: (path: string) => Promise<string>,
  audience: string,
  now: number,
): Promise<Aws['stsGetCallerIdentity']> {
  const base = '/latest/meta-data/iam/security-credentials/'
  // 404 where the instance has no role: its document may be all that is asked for.
  const name = (await get(base).catch(() => '')).trim().split('\n')[0]
  if (!name) return undefined
  const region = (await get('/latest/meta-data/placement/region')).trim()
  if (!regionPattern.test(region)) throw new Error('the metadata service names no region')
  const parsed = roleSchema.safeParse(JSON.parse(await get(base + encodeURIComponent(name))))
  if (!parsed.success) throw new Error('the credentials of the role have another shape')
  const { AccessKeyId, SecretAccessKey, Token } = parsed.data
  const credentials = { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: Token }
  return signCallerIdentity(credentials, region, audience, now)
}
