import { readFile } from 'node:fs/promises'
import { isMap, isScalar, parseDocument } from 'yaml'
import { writeFileAtomic } from '../../shared/files.ts'
import type { Ports } from './ports.ts'
import { readOptional } from './state.ts'

export interface LocalUser {
  readonly email: string
  readonly name: string
  readonly password: string
}

export interface GeneratedConfig {
  readonly gatewayUrl: string
  readonly users: readonly LocalUser[]
  readonly ports: Pick<Ports, 'notes' | 'weather' | 'everything'>
  readonly weatherKeyPath: string
}

const quoted = (text: string): string => JSON.stringify(text)

const user = ({ email, name, password }: LocalUser): string =>
  `      - { email: ${quoted(email)}, name: ${quoted(name)}, groups: [staff], password: ${quoted(password)} }`

/** The control plane's configuration of a first start, with its reasons; the person's own from then on. */
export const controlPlaneYaml = ({ gatewayUrl, users, ports, weatherKeyPath }: GeneratedConfig): string => `\
# Made by the first \`npm start\`; yours from then on. etc/control-plane.yaml explains every key.
tenant: { id: quickstart, name: Quickstart }

gateway: { url: ${quoted(gatewayUrl)} }

# Who can sign in: the built-in directory. An OpenID Connect provider stands beside it with \`type: oidc\`.
identityProviders:
  - id: local
    name: Local users
    type: directory
    users:
${users.map(user).join('\n')}

# Which agents may come: any, as this listens on loopback alone. Elsewhere name the redirect URIs of your agents.
clientWorkloads:
  - id: any-agent
    name: Any agent
    identities: [{ type: oauthRedirectUri, value: "*" }]

trustProviders:
  - { id: local-users, name: Signed in locally, identityProvider: local, matchRules: [] }

# The MCP servers. Addresses in private or loopback space are refused unless allowed here.
serverWorkloads:
  - id: everything
    name: Everything
    url: http://127.0.0.1:${ports.everything}/mcp
    allowedNetworks: [127.0.0.0/8]
  - id: notes
    name: Notes
    url: http://127.0.0.1:${ports.notes}/mcp
    allowedNetworks: [127.0.0.0/8]
  - id: weather
    name: Weather
    url: http://127.0.0.1:${ports.weather}/mcp
    allowedNetworks: [127.0.0.0/8]

credentialProviders:
  - { id: nothing, name: No credential, type: none }
  - id: notes-account
    name: Each person's own Notes account
    type: mcp-user-based-access-token
    mcpServerUrl: http://127.0.0.1:${ports.notes}/mcp
    allowedNetworks: [127.0.0.0/8]
  - id: weather-key
    name: The weather API key
    type: apikey
    header: { name: X-Api-Key, value: { file: ${quoted(weatherKeyPath)} } }

accessPolicies:
  - { id: agents, name: Agents of local users, active: true, client: any-agent, server: gateway, trustProviders: [local-users] }
  - { id: use-everything, name: Everything, active: true, server: everything, trustProviders: [local-users], credentialProvider: nothing }
  - { id: use-notes, name: Notes, active: true, server: notes, trustProviders: [local-users], credentialProvider: notes-account }
  - { id: use-weather, name: Weather, active: true, server: weather, trustProviders: [local-users], credentialProvider: weather-key }
`

/**
 * The text with another \`gateway.url\`, each line where it was, for a start whose options ask for another address
 * than the file says. Undefined where the file says that already or is not of a shape to tell.
 */
export function withGatewayUrl(text: string, gatewayUrl: string): string | undefined {
  const document = parseDocument(text, { logLevel: 'silent' })
  const gateway = isMap(document.contents) ? document.contents.get('gateway', true) : undefined
  const url = isMap(gateway) ? gateway.get('url', true) : undefined
  if (!isScalar(url) || !url.range || url.value === gatewayUrl) return undefined
  const [start, end] = url.range
  return `${text.slice(0, start)}${quoted(gatewayUrl)}${text.slice(end)}`
}

/** The first user of a directory whose password stands in the file as it is. */
export async function firstLocalUser(path: string): Promise<LocalUser | undefined> {
  const parsed = parseDocument(await readFile(path, 'utf8'), { logLevel: 'silent' }).toJS() as {
    identityProviders?: { users?: Partial<LocalUser>[] }[]
  } | null
  const users = parsed?.identityProviders?.flatMap((provider) => provider.users ?? []) ?? []
  const found = users.find(({ email, password }) => typeof email === 'string' && typeof password === 'string')
  return found
    ? { email: found.email!, name: found.name ?? found.email!, password: found.password! }
    : undefined
}

/** Writes the file where it is not there yet. */
export async function ensureConfig(path: string, make: () => string): Promise<void> {
  if ((await readOptional(path)) === undefined) await writeFileAtomic(path, make())
}
