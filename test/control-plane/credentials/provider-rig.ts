import { createHash } from 'node:crypto'
import type { Test } from 'tap'
import { type CredentialAnswer, credentialText } from '../../../shared/wire/credential.ts'
import { type Plane, signIn, startPlane } from '../fleet/credential-rig.ts'

// Claims of the person, as a configuration writes them.
export const email = '$' + '{oidc.identityToken.decode.payload.email}'
export const groups = '$' + '{oidc.identityToken.decode.payload.groups}'

/** A plane whose one server is entered with this provider; Ann and Bob have signed in once. */
export async function planeWith(t: Test, provider: Record<string, unknown>): Promise<Plane> {
  const plane = await startPlane('https://server.example/mcp')
  t.teardown(() => plane.close())
  await plane.apply({
    serverWorkloads: [{ id: 'server', url: 'https://server.example/mcp' }],
    credentialProviders: [{ id: 'cp', ...provider }],
    accessPolicies: [
      { id: 'in', client: 'agents', server: 'gateway' },
      { id: 'use', server: 'server', trustProviders: ['staff'], credentialProvider: 'cp' },
    ],
  })
  for (const name of ['ann', 'bob']) await signIn(plane, name)
  return plane
}

export const ask = (plane: Plane, name = 'ann', rejected?: string): Promise<CredentialAnswer> =>
  plane.ask(name, rejected, 'server')
export const digestOf = (answer: CredentialAnswer): string =>
  createHash('sha256').update(credentialText(answer)).digest('base64url')
export const headerOf = (answer: CredentialAnswer): string =>
  answer.kind === 'headers'
    ? answer.headers.map(({ name, value }) => `${name}: ${value}`).join('\n')
    : answer.kind
export const bearerOf = (answer: CredentialAnswer): string =>
  headerOf(answer).replace(/^Authorization: Bearer /, '')
