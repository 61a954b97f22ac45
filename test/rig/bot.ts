import { readFileSync } from 'node:fs'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { Agent, fetch as undiciFetch } from 'undici'
import type { World } from '../../installer/quickstart/world.ts'
import { textOf } from './world.ts'

const { publicKey, privateKey } = await generateKeyPair('ES256')

/** For `authorizationServer.clients` of a configuration: agents without a person that prove themselves by a key. */
export const botClient = async (clientId: string) => ({
  clientId,
  jwks: { keys: [{ ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256' }] },
  grantTypes: ['client_credentials'],
})

/** Such an agent, seen from `localAddress`; loopback has a whole /8 of addresses. */
export function createBot(rig: Pick<World, 'url' | 'origin' | 'caPath'>, localAddress?: string) {
  const ca = rig.caPath === null ? undefined : readFileSync(rig.caPath)
  const dispatcher = new Agent({
    ...(ca ? { connect: { ca } } : {}),
    ...(localAddress ? { localAddress } : {}),
  })
  const fetch = (url: string | URL, init?: object) => undiciFetch(url, { ...init, dispatcher })
  const clients = new Set<Client>()

  return {
    /** Client credentials by private_key_jwt (RFC 7523 §2.2). */
    tokenOf: async (clientId = 'bot'): Promise<{ status: number; token: string }> => {
      const assertion = await new SignJWT({ jti: crypto.randomUUID() })
        .setProtectedHeader({ alg: 'ES256', kid: 'k1' })
        .setIssuer(clientId)
        .setSubject(clientId)
        .setAudience(rig.origin)
        .setIssuedAt()
        .setExpirationTime('60s')
        .sign(privateKey)
      const response = await fetch(`${rig.origin}/connect/token`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({
          grant_type: 'client_credentials',
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
          client_assertion: assertion,
          resource: rig.url,
          scope: 'mcp',
        }).toString(),
      })
      const { access_token } = (await response.json()) as { access_token?: string }
      return { status: response.status, token: access_token ?? '' }
    },
    connect: async (token: string, headers: Record<string, string> = {}): Promise<Client> => {
      const client = new Client({ name: 'bot', version: '1.0.0' })
      clients.add(client)
      await client.connect(
        new StreamableHTTPClientTransport(new URL(rig.url), {
          fetch: fetch as never,
          requestInit: { headers: { ...headers, authorization: `Bearer ${token}` } },
        }),
      )
      return client
    },
    close: async (): Promise<void> => {
      await Promise.allSettled([...clients].map((client) => client.close()))
      await dispatcher.destroy()
    },
  }
}

/** The sample server behind an API key; `refused: …` where the call is. */
export const weather = (client: Client): Promise<string> =>
  client.callTool({ name: 'weather_get_weather', arguments: { city: 'Basel' } }).then(
    (result) => (result.isError ? `refused: ${textOf(result)}` : textOf(result)),
    (error: unknown) => `refused: ${String(error)}`,
  )
