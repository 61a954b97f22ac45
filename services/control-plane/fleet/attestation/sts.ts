import { isIP } from 'node:net'
import { Agent, request } from 'undici'
import { createNetworkGuard } from '../../../../shared/networks.ts'
import { callerIdentityBody, stsHost } from '../../../../shared/wire/attestation.ts'
import type { TrustProviderOf } from '../../config/agent-controllers.ts'
import { EvidenceError } from './types.ts'

const timeoutMs = 10_000
const maxBytes = 64 << 10

export interface Sts {
  /** Sends GetCallerIdentity with these headers of a signature. Throws EvidenceError where there is no answer. */
  callerIdentity(region: string, signed: Record<string, string>): Promise<{ status: number; text: string }>
  close(): Promise<void>
}

/** Not `fetch`: it writes the Host header itself, and the signature is over the name of the regional STS. */
export function createSts({ stsUrl, allowedNetworks }: TrustProviderOf<'AWSRole'>): Sts {
  const guard = createNetworkGuard(allowedNetworks)
  const agent = new Agent({
    connect: { lookup: guard.lookup, timeout: timeoutMs },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    maxResponseSize: maxBytes,
    connections: 8,
  })
  return {
    callerIdentity: async (region, signed) => {
      const host = stsHost(region)
      const url = new URL(stsUrl ?? `https://${host}/`)
      try {
        const literal = url.hostname.replace(/^\[|\]$/g, '')
        // A literal address never passes through lookup.
        if (isIP(literal)) guard.check(literal)
        const answer = await request(url, {
          method: 'POST',
          headers: { ...signed, host, 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' },
          body: callerIdentityBody,
          dispatcher: agent,
          signal: AbortSignal.timeout(timeoutMs),
        })
        return { status: answer.statusCode, text: await answer.body.text() }
      } catch (error) {
        throw new EvidenceError(`STS can not be reached (${error instanceof Error ? error.message : error})`)
      }
    },
    close: () => agent.close(),
  }
}
