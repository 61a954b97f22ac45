import { closest } from '../../../shared/config/env.ts'
import { apiAudience } from './fields.ts'
import type { ProblemAt } from './messages.ts'
import { gatewayPolicies, geoNeedsDatabase } from './policy-references.ts'
import { defaultPrefix } from './schema.ts'

export type Raw = Record<string, unknown>
export type List = readonly (readonly [index: number, entry: Raw])[]

/**
 * What several objects say together: ids used twice, references to nothing, prefixes that clash. Works on the file
 * as written, so that these problems are listed beside those of a file that does not fit the schema.
 */
export function checkReferences(file: unknown): ProblemAt[] {
  const root = isMap(file) ? file : {}
  const problems: ProblemAt[] = []
  const lists = Object.fromEntries(sections.map((name) => [name, entries(root[name])])) as Record<
    Section,
    List
  >
  for (const name of sections) duplicates(problems, name, lists[name])
  const refer = createReferrer(problems, lists)

  users(problems, lists.identityProviders)
  for (const [index, provider] of lists.trustProviders) {
    refer(['trustProviders', index, 'identityProvider'], provider.identityProvider, 'identityProviders')
  }
  directIssuers(problems, root, lists.trustProviders)
  for (const [index, workload] of lists.clientWorkloads) {
    const named = Array.isArray(workload.ssoIdentityProviders) ? workload.ssoIdentityProviders : []
    for (const [position, provider] of named.entries()) {
      refer(['clientWorkloads', index, 'ssoIdentityProviders', position], provider, 'identityProviders')
    }
  }
  servers(problems, lists.serverWorkloads)
  for (const [index, policy] of lists.accessPolicies) policyReferences(problems, refer, index, policy)
  enterpriseProviders(problems, refer, lists)
  unresolvableUserTokens(problems, lists)
  ownAudiences(problems, root, lists.credentialProviders)
  gatewayPolicies(problems, lists.accessPolicies, lists.accessConditions)
  geoNeedsDatabase(problems, root.geoip, lists.accessConditions)
  return problems
}

const sections = [
  'identityProviders',
  'clientWorkloads',
  'trustProviders',
  'serverWorkloads',
  'agentControllers',
  'credentialProviders',
  'accessConditions',
  'contentSecurity',
  'accessPolicies',
] as const
type Section = (typeof sections)[number]
type Refer = (path: ProblemAt['path'], value: unknown, section: Section) => void

function createReferrer(problems: ProblemAt[], lists: Record<Section, List>): Refer {
  const ids = Object.fromEntries(
    sections.map((name) => [
      name,
      lists[name].map(([, entry]) => entry.id).filter((id) => typeof id === 'string'),
    ]),
  ) as Record<Section, string[]>
  return (path, value, section) => {
    if (typeof value !== 'string' || ids[section].includes(value)) return
    const near = closest(value, ids[section])
    const help = near
      ? `did you mean ${near}?`
      : `add it there or name one of: ${ids[section].join(', ') || '(none yet)'}`
    problems.push({ path, message: `"${value}" is not in ${section}, ${help}` })
  }
}

function duplicates(problems: ProblemAt[], section: Section, list: List): void {
  const seen = new Map<unknown, number>()
  for (const [index, { id }] of list) {
    if (typeof id !== 'string') continue
    const first = seen.get(id)
    if (first === undefined) seen.set(id, index)
    else
      problems.push({
        path: [section, index, 'id'],
        message: `"${id}" is the id of ${section}[${first}] too, choose another`,
      })
  }
}

function users(problems: ProblemAt[], providers: List): void {
  for (const [index, provider] of providers) {
    const seen = new Set<string>()
    for (const [user, { email }] of entries(provider.users)) {
      if (typeof email !== 'string') continue
      const folded = email.toLowerCase()
      if (seen.has(folded)) {
        problems.push({
          path: ['identityProviders', index, 'users', user, 'email'],
          message: `"${email}" is in this directory twice, remove one`,
        })
      }
      seen.add(folded)
    }
  }
}

function servers(problems: ProblemAt[], list: List): void {
  const prefixes = new Map<string | null, unknown>()
  for (const [index, server] of list) {
    if (typeof server.id !== 'string') continue
    if (server.id === 'gateway') {
      problems.push({
        path: ['serverWorkloads', index, 'id'],
        message: '"gateway" names the gateway itself in policies, choose another id',
      })
    }
    const written = server.prefix === null || typeof server.prefix === 'string'
    const prefix = written ? (server.prefix as string | null) : defaultPrefix(server.id)
    const path = ['serverWorkloads', index, written ? 'prefix' : 'id']
    if (prefix !== null && !written && !/^[A-Za-z0-9.-]{1,32}$/.test(prefix)) {
      problems.push({
        path,
        message: 'is too long to be the prefix of its tools as well, add a prefix of up to 32 characters',
      })
    }
    const other = prefixes.get(prefix)
    if (other !== undefined) {
      problems.push({
        path,
        message:
          prefix === null
            ? `only one server may be without prefix and "${String(other)}" is already, give one of them a prefix`
            : `gives its tools the prefix "${prefix}" that "${String(other)}" has already, choose another prefix`,
      })
    } else prefixes.set(prefix, server.id)
  }
}

/** One issuer means one set of keys, and ours is nobody else's. */
function directIssuers(problems: ProblemAt[], root: Raw, list: List): void {
  const server = (root.authorizationServer as Raw | undefined)?.issuer
  const seen = new Set([server])
  for (const [index, { identityProvider, oidcIdToken }] of list) {
    const issuer = isMap(oidcIdToken) ? oidcIdToken.issuer : undefined
    if (issuer === undefined) continue
    const at = (key: string) => ['trustProviders', index, key]
    if (seen.has(issuer)) {
      const whose = issuer === server ? 'the authorization server of the gateway' : 'another trust provider'
      problems.push({ path: [...at('oidcIdToken'), 'issuer'], message: `is the issuer of ${whose}` })
    }
    seen.add(issuer)
    if (identityProvider !== undefined) {
      problems.push({
        path: at('identityProvider'),
        message: 'is for people who sign in here; with oidcIdToken they do not, remove one of the two',
      })
    }
  }
}

function policyReferences(problems: ProblemAt[], refer: Refer, index: number, policy: Raw): void {
  const at = (key: string) => ['accessPolicies', index, key]
  for (const section of ['trustProviders', 'accessConditions', 'contentSecurity'] as const) {
    const named: unknown[] = Array.isArray(policy[section]) ? policy[section] : []
    for (const [position, id] of named.entries()) refer([...at(section), position], id, section)
  }
  if (policy.server === 'gateway') {
    if (policy.client === undefined) {
      problems.push({
        path: at('client'),
        message: 'is missing, name the client workload that may use the gateway',
      })
    }
    refer(at('client'), policy.client, 'clientWorkloads')
    if (policy.credentialProvider !== undefined) {
      problems.push({
        path: at('credentialProvider'),
        message: 'belongs to policies that name a server workload, remove it',
      })
    }
    return
  }
  refer(at('server'), policy.server, 'serverWorkloads')
  if (policy.client !== undefined) {
    problems.push({ path: at('client'), message: 'belongs to policies with server: gateway, remove it' })
  }
  if (policy.credentialProvider === undefined && policy.server !== undefined) {
    problems.push({
      path: at('credentialProvider'),
      message: 'is missing, name one (of type none where the server needs no credential)',
    })
  }
  refer(at('credentialProvider'), policy.credentialProvider, 'credentialProviders')
}

/** The person's sign-in is what the credential is made of: an identity provider that gives tokens to keep. */
function enterpriseProviders(problems: ProblemAt[], refer: Refer, lists: Record<Section, List>): void {
  for (const [index, provider] of lists.credentialProviders) {
    if (provider.type !== 'mcp-enterprise-managed-access-token') continue
    const path = ['credentialProviders', index, 'identityProvider']
    refer(path, provider.identityProvider, 'identityProviders')
    const idp = lists.identityProviders.find(([, entry]) => entry.id === provider.identityProvider)?.[1]
    if (!idp) continue
    if (idp.type !== 'oidc') {
      problems.push({
        path,
        message: `"${String(idp.id)}" is of type ${String(idp.type)} and gives no ID token to exchange, name one of type oidc`,
      })
    } else if (!Array.isArray(idp.scopes) || !idp.scopes.includes('offline_access')) {
      problems.push({
        path,
        message: `"${String(idp.id)}" gives no access that lasts, add offline_access to its scopes`,
      })
    }
  }
}

const ownTokens = new Set<unknown>(['mcp-user-based-access-token', 'mcp-enterprise-managed-access-token'])

/** A user's token belongs to one MCP server: a provider that names its server can not serve another one. */
function unresolvableUserTokens(problems: ProblemAt[], lists: Record<Section, List>): void {
  const byId = (list: List, id: unknown) => list.find(([, entry]) => entry.id === id)?.[1]
  for (const [index, policy] of lists.accessPolicies) {
    const provider = byId(lists.credentialProviders, policy.credentialProvider)
    const server = byId(lists.serverWorkloads, policy.server)
    const own = ownTokens.has(provider?.type)
    const start = own ? provider?.mcpServerUrl : undefined
    if (typeof server?.url !== 'string') continue
    if (server.url.startsWith('stdio:')) {
      if (own && start === undefined) {
        problems.push({
          path: ['accessPolicies', index, 'credentialProvider'],
          message: `has no place to get tokens for ${server.url} from, give that credential provider an mcpServerUrl`,
        })
      }
      continue
    }
    if (typeof start !== 'string') continue
    if (
      !URL.canParse(start) ||
      !URL.canParse(server.url) ||
      new URL(start).origin === new URL(server.url).origin
    )
      continue
    problems.push({
      path: ['accessPolicies', index, 'credentialProvider'],
      message: `gets tokens for ${new URL(start).origin} and would send them to ${new URL(server.url).origin}, use one credential provider per server`,
    })
  }
}

/** A token of ours for the gateway itself would let a server that gets it in as the person. */
function ownAudiences(problems: ProblemAt[], root: Raw, providers: List): void {
  const gateway = isMap(root.gateway) ? root.gateway : {}
  const own = [gateway.url, ...(Array.isArray(gateway.audiences) ? gateway.audiences : [])]
    .filter((value) => typeof value === 'string')
    .concat(apiOf(root))
    .map((value) => value.replace(/\/+$/, ''))
  for (const [index, { audience }] of providers) {
    if (typeof audience !== 'string' || !own.includes(audience.replace(/\/+$/, ''))) continue
    problems.push({
      path: ['credentialProviders', index, 'audience'],
      message:
        'is the gateway itself or its administration, write what names the server or service that takes the token',
    })
  }
}

/** The audience of tokens for our own API. */
function apiOf(root: Raw): string[] {
  const { issuer } = isMap(root.authorizationServer) ? root.authorizationServer : {}
  const { url } = isMap(root.gateway) ? root.gateway : {}
  const from = issuer ?? url
  return typeof from === 'string' && URL.canParse(from) ? [apiAudience(new URL(from).origin)] : []
}

function isMap(value: unknown): value is Raw {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function entries(value: unknown): List {
  if (!Array.isArray(value)) return []
  return value.flatMap((entry, index) => (isMap(entry) ? [[index, entry] as const] : []))
}
