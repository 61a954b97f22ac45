import { isIP } from 'node:net'
import { Agent, request } from 'undici'
import { createNetworkGuard } from '../../../shared/networks.ts'

/** Largest body to and from a guard. */
export const maxBodyBytes = 4 * 1024 * 1024

export interface Posted {
  readonly status: number
  readonly body: unknown
}

export interface Poster {
  /** POSTs JSON, follows no redirect. Rejects where there is no answer in time, or none that is JSON and small enough. */
  post(
    url: string,
    networks: readonly string[],
    headers: Readonly<Record<string, string>>,
    body: string,
    signal: AbortSignal,
  ): Promise<Posted>
  close(): Promise<void>
}

/** Pooled connections to guards, each through the address guard of its own allowed networks. */
export function createPoster(): Poster {
  const agents = new Map<string, { agent: Agent; check: (address: string) => void }>()
  return {
    async post(url, networks, headers, body, signal) {
      const key = networks.join()
      let known = agents.get(key)
      if (!known) {
        const { lookup, check } = createNetworkGuard(networks)
        known = { agent: new Agent({ connect: { lookup, timeout: 5_000 }, connections: 64 }), check }
        agents.set(key, known)
      }
      const host = new URL(url).hostname.replace(/^\[|\]$/g, '')
      // A lookup is not asked for an address that is written out.
      if (isIP(host)) known.check(host)
      const answer = await request(url, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json', accept: 'application/json' },
        body,
        signal,
        dispatcher: known.agent,
      })
      const chunks: Buffer[] = []
      let size = 0
      for await (const chunk of answer.body as AsyncIterable<Buffer>) {
        size += chunk.length
        if (size > maxBodyBytes) throw new Error(`the answer has more than ${maxBodyBytes} bytes`)
        chunks.push(chunk)
      }
      const text = Buffer.concat(chunks).toString('utf8')
      // Of a refusal the status says enough, and its body may be anything.
      return { status: answer.statusCode, body: answer.statusCode === 200 ? JSON.parse(text) : undefined }
    },
    async close() {
      await Promise.all([...agents.values()].map(({ agent }) => agent.destroy()))
    },
  }
}
