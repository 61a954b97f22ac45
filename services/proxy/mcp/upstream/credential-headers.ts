import { hash } from 'node:crypto'
import { Fault } from '../../../../shared/faults.ts'
import { type CredentialAnswer, credentialText } from '../../../../shared/wire/credential.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Credentials } from '../protocol/types.ts'
import { AuthorizationRequired } from './authorization.ts'
import { type Headers, presentation } from './http.ts'
import type { Party } from './request.ts'
import { signer } from './sigv4.ts'

const none: Headers = Object.freeze({})
/** What belongs to HTTP or to the protocol is the gateway's to write, whatever a credential provider says. */
const reserved = /^(?:host|content-.*|transfer-encoding|connection|accept|mcp-.*|aembit-.*)$/
const digests = new WeakMap<Headers, string>()

/**
 * The headers that carry a person's credential to a server: the same object as long as the credential is the same.
 * Rejects with AuthorizationRequired, `policy.denied`, `credential.refused`, `credential.unavailable`.
 */
export function createCredentialHeaders(credentials: Credentials) {
  const built = new WeakMap<CredentialAnswer, Headers>()

  const toHeaders = (answer: CredentialAnswer): Headers => {
    if (answer.kind === 'none') return none
    if (answer.kind === 'authorization_required') throw new AuthorizationRequired(answer)
    if (answer.kind === 'denied') {
      throw new Fault(answer.by === 'provider' ? 'credential.refused' : 'policy.denied', {
        detail: answer.reason,
      })
    }
    let headers = built.get(answer)
    if (!headers) {
      headers = Object.freeze(present(answer))
      built.set(answer, headers)
      digests.set(headers, hash('sha256', credentialText(answer), 'base64url'))
    }
    return headers
  }

  return (
    { principal, clientIp }: Pick<Party, 'principal' | 'clientIp'>,
    server: ServerWorkload,
    rejected?: string,
    scope?: string,
  ): Headers | Promise<Headers> =>
    server.credential === 'none'
      ? none
      : credentials.get(principal, server, rejected, scope, clientIp).then(toHeaders)
}

function present(answer: Extract<CredentialAnswer, { kind: 'headers' | 'aws-sigv4' }>): Headers {
  if (answer.kind === 'aws-sigv4') return { [presentation]: { sign: signer(answer) } }
  const pairs = answer.headers.map(({ name, value }) => [name.toLowerCase(), value] as const)
  const headers = Object.fromEntries(pairs.filter(([name]) => !reserved.test(name)))
  if (!answer.query?.length) return headers
  const query = new URLSearchParams(
    answer.query.map(({ name, value }): [string, string] => [name, value]),
  ).toString()
  return { ...headers, [presentation]: { query } }
}

const carried = new WeakMap<Headers, Map<string, Headers>>()

/**
 * What a local server's adapter is told besides the credential: for whom, without saying who. The same object as long
 * as person and credential are the same.
 */
export function withParty(credential: Headers, principalKey: string): Headers {
  let known = carried.get(credential)
  if (!known) {
    known = new Map()
    carried.set(credential, known)
  }
  let headers = known.get(principalKey)
  if (!headers) {
    // Without a credential one object stands for everybody: bounded, since a map of people only grows.
    if (known.size >= 10_000) known.clear()
    headers = Object.freeze({ ...credential, 'aembit-party': hash('sha256', principalKey, 'base64url') })
    known.set(principalKey, headers)
  }
  return headers
}

/** The value that stands for a credential when it is refused. */
export function digest(headers: Headers): string {
  return digests.get(headers) ?? hash('sha256', '', 'base64url')
}
