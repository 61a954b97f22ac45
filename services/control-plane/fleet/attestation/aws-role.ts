import { audienceHeader, type Evidence } from '../../../../shared/wire/attestation.ts'
import type { TrustProviderOf } from '../../config/agent-controllers.ts'
import type { Sts } from './sts.ts'
import { type Attested, type EvidenceContext, EvidenceError } from './types.ts'

const maxAgeMs = 5 * 60_000
/** What is passed on of the headers of the evidence. */
const passed = ['authorization', 'x-amz-date', 'x-amz-security-token', audienceHeader]

/**
 * A GetCallerIdentity that the controller signed (SigV4) and we send: to the STS of the region that it names, with a
 * body of ours, so that the signature can be good for nothing else. The bound audience is among the signed headers.
 */
export async function verifyAwsRole(
  provider: TrustProviderOf<'AWSRole'>,
  { headers, region }: NonNullable<NonNullable<Evidence['aws']>['stsGetCallerIdentity']>,
  { audience, now }: EvidenceContext,
  sts: Sts,
): Promise<Attested> {
  if (!/^[a-z]{2}(-[a-z]+)+-\d$/.test(region)) throw new EvidenceError('the region of STS is none')
  if (provider.regions.length > 0 && !provider.regions.includes(region)) {
    throw new EvidenceError(`the region ${region} is not among those of the trust provider`)
  }
  const given = Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
  )
  checkSignedHeaders(given, region)
  if (given[audienceHeader] !== audience) {
    throw new EvidenceError('the signed STS request was made for another challenge')
  }
  const at = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(given['x-amz-date'] ?? '')
  const date = at ? Date.parse(`${at[1]}-${at[2]}-${at[3]}T${at[4]}:${at[5]}:${at[6]}Z`) : Number.NaN
  if (!(Math.abs(now - date) <= maxAgeMs)) {
    throw new EvidenceError('the signed STS request is not of the last five minutes; check the clocks')
  }
  return ask(region, given, sts)
}

/** Which headers the signature covers (SigV4, Authorization header). */
function checkSignedHeaders(headers: Record<string, string>, region: string): void {
  const parts =
    /^AWS4-HMAC-SHA256 Credential=[A-Za-z0-9]{16,128}\/\d{8}\/([a-z0-9-]+)\/([a-z0-9]+)\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=[0-9a-f]{64}$/.exec(
      headers.authorization ?? '',
    )
  if (!parts) throw new EvidenceError('the STS request is not signed by Signature Version 4')
  const [, scopeRegion, service, names = ''] = parts
  const signed = names.split(';')
  const needed = ['host', 'x-amz-date', audienceHeader]
  if (headers['x-amz-security-token'] !== undefined) needed.push('x-amz-security-token')
  const missing = needed.filter((name) => !signed.includes(name))
  if (service !== 'sts' || scopeRegion !== region || missing.length > 0) {
    throw new EvidenceError(
      `the signature of the STS request does not cover ${missing.join(', ') || 'sts in this region'}`,
    )
  }
}

async function ask(region: string, given: Record<string, string>, sts: Sts): Promise<Attested> {
  const signed = Object.fromEntries(
    passed.flatMap((name) => (given[name] === undefined ? [] : [[name, given[name]]])),
  )
  const { status, text } = await sts.callerIdentity(region, signed)
  if (status !== 200) {
    const code = /<Code>([A-Za-z.]{1,64})<\/Code>/.exec(text)?.[1]
    throw new EvidenceError(`STS answered ${status}${code ? ` ${code}` : ''}`)
  }
  return read(text)
}

/** `<GetCallerIdentityResult>` of the STS API, 2011-06-15. */
function read(text: string): Attested {
  const one = (name: string): string | undefined => {
    const found = [...text.matchAll(new RegExp(`<${name}>([^<>&]{1,2048})</${name}>`, 'g'))]
    return found.length === 1 ? found[0]?.[1] : undefined
  }
  const arn = one('Arn')
  const account = one('Account')
  const userId = one('UserId')
  const parts = /^arn:(aws[a-z-]*):(iam|sts)::(\d{12}):(.+)$/.exec(arn ?? '')
  if (!arn || !parts || !userId || !account || parts[3] !== account)
    throw new EvidenceError('STS answered something else')
  const role = /^assumed-role\/([^/]+)\/.+$/.exec(parts[4] ?? '')?.[1]
  return {
    subject: arn,
    attributes: {
      AwsAccountId: [account],
      AwsUsername: [userId],
      AwsAssumedRole: role === undefined ? [] : [role],
      // STS does not tell a role's path: a role is matched by its ARN without one.
      AwsRoleARN: role === undefined ? [arn] : [arn, `arn:${parts[1]}:iam::${account}:role/${role}`],
    },
  }
}
