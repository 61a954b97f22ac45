import * as v2 from '@modelcontextprotocol/client'
import * as v1 from '@modelcontextprotocol/sdk/client/auth.js'
import { decodeJwt } from 'jose'
import t from 'tap'
import { Browser } from './browser.ts'
import { callback, signInAndAllow, startWorld, type World } from './world.ts'

type Flow = Pick<
  typeof v1,
  | 'discoverAuthorizationServerMetadata'
  | 'registerClient'
  | 'startAuthorization'
  | 'exchangeAuthorization'
  | 'refreshAuthorization'
>

/** The helpers that both generations of the official SDK sign in with, step by step. */
async function signIn(world: World, sdk: Flow) {
  const metadata = await sdk.discoverAuthorizationServerMetadata(new URL(world.issuer))
  if (!metadata) throw new Error('the SDK found no metadata')
  const clientInformation = await sdk.registerClient(world.issuer, {
    metadata,
    clientMetadata: { client_name: 'SDK', redirect_uris: [callback] },
  })
  const { authorizationUrl, codeVerifier } = await sdk.startAuthorization(world.issuer, {
    metadata,
    clientInformation,
    redirectUrl: callback,
    scope: 'mcp',
    state: 'sdk-state',
    resource: new URL(world.resource),
  })
  const answer = await signInAndAllow(new Browser(), authorizationUrl.href)
  const authorizationCode = new URL(answer.location!).searchParams.get('code')!
  const iss = new URL(answer.location!).searchParams.get('iss')!
  const resource = new URL(world.resource)
  const tokens = await sdk.exchangeAuthorization(world.issuer, {
    metadata,
    clientInformation,
    authorizationCode,
    codeVerifier,
    redirectUri: callback,
    resource,
    // RFC 9207: v2 compares it, v1 does not know it.
    ...{ iss },
  })
  const refreshed = await sdk.refreshAuthorization(world.issuer, {
    metadata,
    clientInformation,
    refreshToken: tokens.refresh_token!,
    resource,
  })
  return { metadata, tokens, refreshed }
}

for (const [name, sdk] of [
  ['v1', v1],
  ['v2', v2 as unknown as Flow],
] as const) {
  t.test(`SDK ${name}: discover, register, authorize, exchange, refresh`, async (t) => {
    const world = await startWorld()
    t.teardown(() => world.close())
    const { metadata, tokens, refreshed } = await signIn(world, sdk)
    t.equal(metadata.issuer, world.issuer)
    t.match(decodeJwt(tokens.access_token), { aud: world.resource, sub: 'ann@example.com', scope: 'mcp' })
    t.match(decodeJwt(refreshed.access_token), { aud: world.resource, sub: 'ann@example.com' })
    t.not(refreshed.refresh_token, tokens.refresh_token)
  })
}
