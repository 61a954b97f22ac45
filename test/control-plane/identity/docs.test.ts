import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { parseConfig } from '../../../services/control-plane/config/load.ts'

const page = readFileSync(join(import.meta.dirname, '../../../docs/identity-providers.md'), 'utf8')

t.test('every sample of the page is taken as it is', async (t) => {
  const parsed = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text = '']) => parse(text) as unknown)
  const samples = parsed.filter((sample) => Array.isArray(sample))
  t.equal(samples.length, 7)
  // The others are sections of the file.
  const sections = parsed.filter((sample) => !Array.isArray(sample))
  t.equal(sections.length, 1)
  const config = parseConfig(
    JSON.stringify({
      tenant: { id: 'example' },
      gateway: { url: 'https://gateway.example/mcp' },
      identityProviders: samples.flat(),
      ...Object.assign({}, ...sections),
    }),
    'sample.yaml',
  )
  t.same(
    config.identityProviders.map(({ type }) => type),
    ['oidc', 'oidc', 'oidc', 'oidc', 'oidc', 'oauth2', 'saml'],
  )
})
