import type { CredentialAnswer } from '../../../../shared/wire/credential.ts'
import type { Issued } from '../issued.ts'

export interface TokenHeader {
  readonly name: string
  readonly scheme?: string | undefined
}

export const bearer: TokenHeader = { name: 'Authorization', scheme: 'Bearer' }

/** The value of a header that carries a token. */
export const headerValue = (token: string, { scheme }: TokenHeader): string =>
  scheme === undefined ? token : `${scheme} ${token}`

/** A token as something that is put into one header. */
export function issuedToken(
  token: string,
  expiresAt: number | null,
  header: TokenHeader = bearer,
): Issued<{ name: string; value: string }> {
  const value = headerValue(token, header)
  return { value: { name: header.name, value }, text: value, expiresAt }
}

export function headersAnswer(
  credentialProviderId: string,
  { value, expiresAt }: Issued<{ name: string; value: string }>,
): CredentialAnswer {
  return {
    kind: 'headers',
    headers: [value],
    expiresAt: expiresAt === null ? null : new Date(expiresAt).toISOString(),
    credentialProviderId,
  }
}
