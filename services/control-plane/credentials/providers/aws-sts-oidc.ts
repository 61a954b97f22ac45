import { Fault } from '../../../../shared/faults.ts'
import type { CredentialAnswer } from '../../../../shared/wire/credential.ts'
import type { ProviderConfig } from '../../config/schema.ts'
import type { Issued } from '../issued.ts'
import { isPersonal, whomOf } from '../own-tokens.ts'
import { requestToken } from '../token-endpoint.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

interface Keys {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken: string
}

const assertionSecs = 300

/**
 * Temporary keys of a role for a JWT of our own (AWS STS AssumeRoleWithWebIdentity, version 2011-06-15); requests to the
 * server are signed with them at the gateway (Signature Version 4).
 */
export function createAwsProvider(
  config: ProviderConfig<'aws-sts-oidc'>,
  { issued, own, networks }: Pick<ProviderDeps, 'issued' | 'own' | 'networks'>,
): CredentialProvider {
  const { id, roleArn, region, service, lifetime } = config
  const china = region.startsWith('cn-') ? '.cn' : ''
  const url = config.stsUrl ?? `https://sts.${region}.amazonaws.com${china}/`
  const outbound = networks.only(config.allowedNetworks)

  return {
    issue: async (ask): Promise<CredentialAnswer> => {
      const { subject, claims, rejected } = ask
      const make = async (): Promise<Issued<Keys>> => {
        const { token } = await own.make({ ...config, lifetime: assertionSecs }, claims)
        const form = {
          Action: 'AssumeRoleWithWebIdentity',
          Version: '2011-06-15',
          RoleArn: roleArn,
          RoleSessionName: sessionName(isPersonal(config) ? subject : ''),
          WebIdentityToken: token,
          DurationSeconds: String(lifetime),
        }
        const text = await requestToken(outbound, { url, form, headers: { accept: 'text/xml' } })
        return readCredentials(text)
      }
      const found = await issued.get({ config, whom: whomOf(config, ask), make, rejected })
      return {
        kind: 'aws-sigv4',
        ...found.value,
        region,
        service,
        expiresAt: new Date(found.expiresAt ?? 0).toISOString(),
        credentialProviderId: id,
      }
    },
  }
}

/** 2 to 64 of `[\w+=,.@-]`; stands in CloudTrail, so it names the person where the keys are theirs. */
function sessionName(whom: string): string {
  const name = whom.replace(/[^\w+=,.@-]/g, '-').slice(0, 64)
  return name.length >= 2 ? name : 'mcp-identity-gateway'
}

/** The four values of <Credentials>: the answer is generated, flat and without attributes there. */
function readCredentials(xml: string): Issued<Keys> {
  const block = /<Credentials>([\s\S]*?)<\/Credentials>/.exec(xml)?.[1] ?? ''
  const value = (name: string): string => {
    const found = new RegExp(`<${name}>\\s*([\\x21-\\x3b\\x3d-\\x7e]{1,8192}?)\\s*</${name}>`).exec(
      block,
    )?.[1]
    if (found === undefined) throw new Fault('upstream.garbage', { detail: `STS answered without ${name}` })
    return found
  }
  const accessKeyId = value('AccessKeyId')
  const expiresAt = Date.parse(value('Expiration'))
  if (Number.isNaN(expiresAt))
    throw new Fault('upstream.garbage', { detail: 'STS answered no date as Expiration' })
  const keys = { accessKeyId, secretAccessKey: value('SecretAccessKey'), sessionToken: value('SessionToken') }
  return { value: keys, text: accessKeyId, expiresAt }
}
