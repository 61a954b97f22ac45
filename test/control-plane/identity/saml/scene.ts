import type { Test } from 'tap'
import { type Answer, Browser } from '../browser.ts'
import { authorizeUrl, pkce, register, startWorld, type WorldOptions } from '../world.ts'
import { type AuthnRequest, createSamlIdp, type Over, type SamlIdp } from './idp.ts'

/** A gateway whose people sign in at a SAML provider. */
export async function samlScene(
  t: Test,
  over: Record<string, unknown> = {},
  { idp = createSamlIdp(), ...options }: WorldOptions & { idp?: SamlIdp } = {},
) {
  const provider = {
    id: 'corp',
    name: 'Corp SAML',
    type: 'saml',
    ...('metadataUrl' in over ? {} : { metadataXml: idp.metadata() }),
    ...over,
  }
  const world = await startWorld({
    ...options,
    config: { ...options.config, identityProviders: [provider] },
  })
  t.teardown(() => world.close())
  const begin = async (browser = new Browser()) => {
    const client = await register(world)
    const { verifier, challenge } = pkce()
    const page = await browser.follow(await browser.get(authorizeUrl(world, client.client_id, challenge)))
    return { browser, client, verifier, page }
  }
  /** To the provider: what it is asked. */
  const ask = async (browser = new Browser()) => {
    const started = await begin(browser)
    const away = await started.browser.submit(started.page, '/idp')
    if (!away.location?.startsWith('https://idp.example/sso')) throw new Error(`${away.status} ${away.text}`)
    return { ...started, away, request: idp.request(away.location) }
  }
  /** What the provider's page posts, without any cookie of ours, and what the browser is shown then. */
  const deliver = async (
    browser: Browser,
    request: AuthnRequest,
    response: string,
    relayState = request.relayState,
  ): Promise<Answer> => {
    const posted = await new Browser().post(request.acs, { SAMLResponse: response, RelayState: relayState })
    return posted.location === null ? posted : browser.get(posted.location)
  }
  const attempt = async (response: (request: AuthnRequest) => string): Promise<Answer> => {
    const { browser, request } = await ask()
    return deliver(browser, request, response(request))
  }
  const answered = (with_: Over) => attempt((request) => idp.respond(request, with_))
  return { world, idp, begin, ask, deliver, attempt, answered }
}

/** Why the last sign-in was refused, as the log has it. */
export function lastRefusal(logs: readonly Record<string, unknown>[]): string {
  const line = logs.findLast(({ event }) => event === 'sign_in.failed')
  return String(line?.detail)
}
