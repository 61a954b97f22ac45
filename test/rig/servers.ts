import { parseDocument, type YAMLSeq } from 'yaml'

export interface ExtraServer {
  readonly id: string
  readonly url: string
  /** Put into X-Api-Key by the gateway; none where absent. */
  readonly apiKey?: string
  /** Emails of those who may call it; everyone where absent. */
  readonly onlyFor?: readonly string[]
}

/** A generated configuration with more MCP servers on loopback, each with its policy. */
export function withServers(yaml: string, servers: readonly ExtraServer[]): string {
  const document = parseDocument(yaml)
  const add = (list: string, entry: unknown): void =>
    (document.get(list) as YAMLSeq).add(document.createNode(entry))
  for (const { id, url, apiKey, onlyFor } of servers) {
    add('serverWorkloads', { id, url, allowedNetworks: ['127.0.0.0/8'] })
    if (apiKey) {
      add('credentialProviders', {
        id: `${id}-key`,
        type: 'apikey',
        header: { name: 'X-Api-Key', value: { value: apiKey } },
      })
    }
    if (onlyFor) {
      const matchRules = onlyFor.map((value) => ({ attribute: 'OidcCustom', key: 'email', value }))
      add('trustProviders', { id: `${id}-users`, identityProvider: 'local', matchRules })
    }
    add('accessPolicies', {
      id: `use-${id}`,
      server: id,
      trustProviders: [onlyFor ? `${id}-users` : 'local-users'],
      credentialProvider: apiKey ? `${id}-key` : 'nothing',
    })
  }
  return document.toString({ lineWidth: 0 })
}
