import { readFileSync } from 'node:fs'
import { test } from 'tap'
import { parseDocument, stringify } from 'yaml'
import { parseConfig } from '../../../services/control-plane/config/load.ts'

const page = readFileSync(new URL('../../../docs/credentials.md', import.meta.url), 'utf8')

test('every sample of docs/credentials.md is a configuration, and every type has one', (t) => {
  const samples = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].flatMap(
    ([, source]) => parseDocument(source!).toJS() as { id: string; type: string }[],
  )
  const config = parseConfig(
    stringify({
      tenant: { id: 'acme' },
      gateway: { url: 'https://gw.example/mcp' },
      identityProviders: [
        { id: 'local', type: 'directory' },
        {
          id: 'corp',
          type: 'oidc',
          issuer: 'https://login.example.com',
          clientId: 'gateway',
          scopes: ['openid', 'profile', 'email', 'offline_access'],
        },
      ],
      credentialProviders: [...samples, { id: 'open', type: 'none' }],
    }),
    'docs/credentials.md',
    { env: {} },
  )
  t.equal(config.credentialProviders.length, samples.length + 1)
  const listed = [...page.matchAll(/^\| `([A-Za-z0-9-]+)` \| (?:nobody|each|one|the)\b/gm)].map(
    ([, type]) => type!,
  )
  t.same(
    [...new Set(config.credentialProviders.map(({ type }) => type))].sort(),
    [...listed].sort(),
    'the table and the samples have the same types',
  )
  const problem = (() => {
    try {
      parseConfig('credentialProviders: [{id: x, type: nonsense}]', 'x.yaml', { env: {} })
    } catch (error) {
      return String((error as { detail?: string }).detail)
    }
  })()
  for (const type of listed) t.ok(problem?.includes(type), `${type} is a type of the schema`)
  t.end()
})
