import type { IdentityProviderConfig } from '../config/schema.ts'

/** What a sign-in page offers. */
export interface SignInOptions {
  readonly directories: readonly { readonly id: string; readonly name: string }[]
  readonly externals: readonly { readonly id: string; readonly name: string }[]
  /** Whether some provider is found by the domain of an e-mail address. */
  readonly byEmail: boolean
}

/**
 * The providers that a sign-in may use: all, or those that the client's workload names (`ssoIdentityProviders`). One
 * that is not in the list is not offered and not taken either.
 */
export function allowedProviders(
  providers: readonly IdentityProviderConfig[],
  allowed: readonly string[] | undefined,
): readonly IdentityProviderConfig[] {
  if (allowed === undefined || allowed.length === 0) return providers
  return providers.filter(({ id }) => allowed.includes(id))
}

export function signInOptions(providers: readonly IdentityProviderConfig[]): SignInOptions {
  const shown = ({ id, name }: IdentityProviderConfig) => ({ id, name })
  return {
    directories: providers.filter(({ type }) => type === 'directory').map(shown),
    externals: providers.filter(({ type }) => type !== 'directory').map(shown),
    byEmail: providers.some(({ type, domains }) => type !== 'directory' && domains.length > 0),
  }
}

/**
 * The external provider of an address, by its domain, the longest that fits first: `eu.example.com` before
 * `example.com`, which also takes what is below it. Undefined where none fits.
 */
export function providerOfEmail(
  providers: readonly IdentityProviderConfig[],
  email: string,
): IdentityProviderConfig | undefined {
  const at = email.lastIndexOf('@')
  const host =
    at < 1
      ? ''
      : email
          .slice(at + 1)
          .trim()
          .toLowerCase()
  const fitting = providers
    .filter(({ type }) => type !== 'directory')
    .flatMap((provider) =>
      provider.domains
        .filter((domain) => host === domain || host.endsWith(`.${domain}`))
        .map((domain) => ({ provider, length: domain.length })),
    )
    .sort((a, b) => b.length - a.length)
  return fitting[0]?.provider
}
