import type { CredentialProvider } from './provider.ts'

/** Servers that ask for nothing. */
export function createNoneProvider(): CredentialProvider {
  return { issue: async () => ({ kind: 'none' }) }
}
