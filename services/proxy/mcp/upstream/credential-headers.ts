import { hash } from 'node:crypto'
import { Fault } from '../../../../shared/faults.ts'
import type { Principal } from '../../../../shared/policy.ts'
import type { CredentialAnswer } from '../../../../shared/wire/credential.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Credentials } from '../protocol/types.ts'
import { AuthorizationRequired } from './authorization.ts'
import type { Headers } from './http.ts'

const none: Headers = Object.freeze({})
/** What belongs to HTTP or to the protocol is the gateway's to write, whatever a credential provider says. */
const reserved = /^(?:host|content-.*|transfer-encoding|connection|accept|mcp-.*)$/

/**
 * The headers that carry a person's credential to a server: the same object as long as the credential is the same.
 * Rejects with AuthorizationRequired, `policy.denied`, `credential.unavailable`.
 */
export function createCredentialHeaders(credentials: Credentials) {
  const built = new WeakMap<CredentialAnswer, Headers>()

  const toHeaders = (answer: CredentialAnswer): Headers => {
    if (answer.kind === 'none') return none
    if (answer.kind === 'authorization_required') throw new AuthorizationRequired(answer)
    if (answer.kind === 'denied') throw new Fault('policy.denied', { detail: answer.reason })
    let headers = built.get(answer)
    if (!headers) {
      const pairs = answer.headers.map(({ name, value }) => [name.toLowerCase(), value] as const)
      headers = Object.freeze(Object.fromEntries(pairs.filter(([name]) => !reserved.test(name))))
      built.set(answer, headers)
    }
    return headers
  }

  return (principal: Principal, server: ServerWorkload, rejected?: string): Headers | Promise<Headers> =>
    server.credential === 'none' ? none : credentials.get(principal, server, rejected).then(toHeaders)
}

/** The value that stands for a credential when it is refused: of the Authorization header, else of all values. */
export function digest(headers: Headers): string {
  return hash('sha256', headers.authorization ?? Object.values(headers).join('\n'), 'base64url')
}
