import type { SamlConfig } from '../../config/schema.ts'
import { keepClaims } from '../claims.ts'
import { normalizeEmail } from '../directory.ts'
import { maxGroups } from '../mapping.ts'
import { type Identity, SignInRefused } from '../types.ts'
import type { Assertion } from './response.ts'

/** Names under which providers send what we need, where the configuration names none: Entra, Okta, Google, eduPerson. */
const usual = {
  email: [
    'email',
    'mail',
    'emailAddress',
    'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress',
    'urn:oid:0.9.2342.19200300.100.1.3',
  ],
  name: [
    'displayName',
    'name',
    'http://schemas.microsoft.com/identity/claims/displayname',
    'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name',
    'urn:oid:2.16.840.1.113730.3.1.241',
  ],
  groups: [
    'groups',
    'memberOf',
    'http://schemas.microsoft.com/ws/2008/06/identity/claims/groups',
    'http://schemas.xmlsoap.org/claims/Group',
    'urn:oid:1.3.6.1.4.1.5923.1.5.1.1',
  ],
} as const

const emailFormat = 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress'
const transientFormat = 'urn:oasis:names:tc:SAML:2.0:nameid-format:transient'

/** What an assertion says as an identity of ours. Throws SignInRefused where no single usable subject comes out. */
export function mapAssertion(config: SamlConfig, assertion: Assertion): Identity {
  const { attributes, nameId, nameIdFormat } = assertion
  const one = (wanted: string | undefined, names: readonly string[]): string | undefined => {
    for (const name of wanted === undefined ? names : [wanted]) {
      const values = attributes.get(name)
      if (values?.length === 1 && (values[0] ?? '').length <= 255) return values[0]
    }
    return undefined
  }
  if (config.subjectAttribute === undefined && nameIdFormat === transientFormat) {
    throw new SignInRefused(
      `"${config.name}" gives you another name at each sign-in, so nothing can be kept for you.`,
      'NameID is transient: set subjectAttribute, or ask the provider for a persistent or e-mail NameID',
      { reason: 'MatchRuleFailed' },
    )
  }
  const raw = config.subjectAttribute === undefined ? nameId : one(config.subjectAttribute, [])
  if (raw === undefined) {
    throw new SignInRefused(
      `"${config.name}" did not say who you are: the attribute "${config.subjectAttribute}" is missing.`,
      `attribute ${config.subjectAttribute} is absent, empty or not one value`,
      { reason: 'NoDataFound' },
    )
  }
  const address =
    one(config.emailAttribute, usual.email) ?? (nameIdFormat === emailFormat ? nameId : undefined)
  const email = address !== undefined && isAddress(address) ? normalizeEmail(address) : undefined
  const name = one(config.nameAttribute, usual.name)
  return {
    idp: config.id,
    idpSubject: nameId,
    subject: isAddress(raw) ? normalizeEmail(raw) : raw,
    ...(email === undefined ? {} : { email }),
    ...(name === undefined ? {} : { name }),
    groups: groupsOf(config, attributes),
    claims: claimsOf(assertion),
  }
}

function groupsOf(config: SamlConfig, attributes: Assertion['attributes']): readonly string[] {
  const groups = (config.groupsAttribute === undefined ? usual.groups : [config.groupsAttribute])
    .map((each) => attributes.get(each))
    .find((values) => values !== undefined)
    ?.filter((group) => group.length <= 255)
  // Some of them would be none: what a rule forbids a group would be allowed.
  if (groups !== undefined && groups.length > maxGroups) {
    throw new SignInRefused(
      `You are in more groups at "${config.name}" than can be taken over. An administrator has to have fewer of them sent.`,
      `${groups.length} groups, at most ${maxGroups} are kept: have identity provider ${config.id} send those that policy names`,
    )
  }
  return groups ?? []
}

/** Attributes by their names, and all of it again under the names that dynamic claims are written with. */
function claimsOf({ issuer, nameId, attributes }: Assertion): Readonly<Record<string, unknown>> {
  const claims: [string, unknown][] = [...attributes].map(([name, values]) => [
    name,
    values.length === 1 ? values[0] : values,
  ])
  const dynamic = claims.map(([name, value]): [string, unknown] => [
    `saml.response.attributes['${name}']`,
    value,
  ])
  return keepClaims(
    Object.fromEntries([
      ...claims,
      ...dynamic,
      ['saml.response.issuer', issuer],
      ['saml.response.subject.nameId', nameId],
    ]),
    'saml',
  )
}

function isAddress(value: string): boolean {
  return value.length <= 254 && /^[^\s@]+@[^\s@]+$/.test(value)
}
