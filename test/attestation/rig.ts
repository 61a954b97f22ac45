import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from 'jose'
import type { Test } from 'tap'
import { type Config, parseConfig } from '../../services/control-plane/config/load.ts'
import { boundAudience, type Evidence } from '../../shared/wire/attestation.ts'
import {
  controllerKeys,
  type Fleet,
  type FleetOptions,
  post,
  startFleet,
  yaml,
} from '../control-plane/fleet/rig.ts'

export const controllerId = '7a3f1c9e-0000-4000-8000-000000000001'

/** A configuration with one agent controller whose trust provider is this YAML, flow style. */
export function configWith(trustProvider: unknown, id = controllerId): Config {
  const controllers = JSON.stringify([{ id, name: 'gateways', trustProvider }])
  return parseConfig(`${yaml()}\nagentControllers: ${controllers}\n`, 'test.yaml', { env: {} })
}

export async function startAttested(
  t: Test,
  trustProvider: unknown,
  more: FleetOptions = {},
): Promise<Fleet> {
  const fleet = await startFleet({ config: configWith(trustProvider), ...more })
  t.teardown(fleet.close)
  return fleet
}

/** A machine with its own key, as the controller does it, with the evidence that the test makes. */
export function machine(fleet: Fleet, id = controllerId) {
  const { publicJwk, privateJwk } = controllerKeys()
  const { kty, crv, x } = publicJwk
  const publicKey = { kty, crv, x }
  const challenge = async () =>
    (await post(fleet.http, '/controller/v1/challenges', { controllerId: id, publicJwk: publicKey }))
      .body as {
      challenge: string
      nonce: string
    }
  const present = async (
    evidence: Evidence,
    { challenge: given, more = {} }: { challenge: string; more?: Record<string, unknown> },
  ) => {
    const now = Math.floor(Date.now() / 1000)
    const assertion = await new SignJWT()
      .setProtectedHeader({ alg: 'EdDSA' })
      .setIssuer(id)
      .setSubject(id)
      .setAudience(boundAudience('acme', given))
      .setJti(randomUUID())
      .setIssuedAt(now)
      .setExpirationTime(now + 60)
      .sign(await importJWK(privateJwk, 'EdDSA'))
    return post(fleet.http, '/controller/v1/attested-tokens', {
      controllerId: id,
      publicJwk: publicKey,
      challenge: given,
      evidence,
      assertion,
      version: '1.2.3',
      hostname: 'host-a',
      ...more,
    })
  }
  /** Challenge and answer in one. */
  const attest = async (make: (audience: string, nonce: string) => Promise<Evidence> | Evidence) => {
    const { challenge: given, nonce } = await challenge()
    return present(await make(boundAudience('acme', given), nonce), { challenge: given })
  }
  return { publicKey, challenge, present, attest }
}

/** The last reason that the operator's log gives for a refusal. */
export const reason = (fleet: Fleet): string => {
  const refused = fleet.lines
    .map((line) => JSON.parse(line))
    .filter(({ code }) => code === 'attestation.refused')
  return String(refused.at(-1)?.detail)
}

export const refusal = { status: 401, body: { code: 'attestation.refused', detail: undefined } }

export async function serve(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

export async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) text += chunk
  return text
}

/** An OpenID issuer: its metadata, its keys, and tokens of them. */
export async function startIssuer(t: Test) {
  const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true })
  const jwk: JWK = { ...(await exportJWK(publicKey)), kid: 'k1', alg: 'RS256', use: 'sig' }
  const issuer = await serve(t, (request, response) => {
    response.setHeader('content-type', 'application/json')
    if (request.url === '/.well-known/openid-configuration') {
      response.end(JSON.stringify({ issuer, jwks_uri: `${issuer}/keys` }))
    } else response.end(JSON.stringify({ keys: [jwk] }))
  })
  const token = (claims: Record<string, unknown>, key = privateKey) => {
    const now = Math.floor(Date.now() / 1000)
    return new SignJWT({ iss: issuer, sub: 's', iat: now, exp: now + 600, ...claims })
      .setProtectedHeader({ alg: 'RS256', kid: 'k1' })
      .sign(key)
  }
  return { issuer, token }
}
