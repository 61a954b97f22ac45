import { strict as assert } from 'node:assert'
import { Browser } from '../control-plane/identity/browser.ts'
import { callback, pkce } from '../control-plane/identity/world.ts'
import { users } from '../rig/world.ts'
import { type Area, type Attack, attack } from './case.ts'
import type { AttackRig } from './rig.ts'

/** An authorization request that must end on a page of ours, with nothing sent to where it wanted. */
const atOurs = (name: string, refusal: string, make: (rig: AttackRig) => string): Attack =>
  attack(name, refusal, async (rig) => {
    const answer = await rig.ann.browser.get(make(rig))
    assert.equal(answer.location, null, `redirected to ${answer.location}`)
    assert.ok(answer.status >= 400 && answer.status < 500, `${answer.status}`)
  })
const redirect = (name: string, uri: string): Attack =>
  atOurs(`redirect_uri: ${name}`, 'compared exactly; only the port of a loopback host is free', (rig) =>
    rig.link(rig.ann.client, { redirect_uri: uri }),
  )
/** A request that the client itself is told to be wrong, with the issuer beside the error. */
const toldWrong = (
  name: string,
  refusal: string,
  over: Record<string, string | null>,
  error: RegExp,
): Attack =>
  attack(name, refusal, async (rig) => {
    const { location, status } = await rig.ann.browser.get(rig.link(rig.ann.client, over))
    if (location === null) return assert.ok(status >= 400, String(status))
    const answer = new URL(location)
    // What asks for an answer in the fragment is told so there.
    const told = answer.hash === '' ? answer.searchParams : new URLSearchParams(answer.hash.slice(1))
    assert.doesNotMatch(location, /[?&#](code|access_token|id_token)=/)
    assert.match(told.get('error') ?? '', error)
    assert.equal(told.get('iss'), rig.origin, 'RFC 9207: iss in errors too')
  })
/** A code request that must fail; `steal` says what of it is wrong. */
const code = (
  name: string,
  refusal: string,
  steal: (
    rig: AttackRig,
    good: Record<string, string>,
  ) => Promise<Record<string, string>> | Record<string, string>,
): Attack =>
  attack(name, refusal, async (rig) => {
    const { verifier, challenge } = pkce()
    const { client, browser } = rig.ann
    const good = {
      grant_type: 'authorization_code',
      code: await rig.codeFor(browser, rig.link(client, {}, challenge), users.ann.email, users.ann.password),
      redirect_uri: callback,
      client_id: client.client_id,
      code_verifier: verifier,
    }
    const { status, body } = await rig.token(await steal(rig, good))
    assert.ok(status === 400 || status === 401, `${status} ${JSON.stringify(body)}`)
    assert.equal(body.access_token, undefined)
  })

export const authorization: Area = {
  title: 'Authorization requests, codes and redirects',
  attacks: [
    redirect('another host', 'https://evil.example/callback'),
    redirect('another path', 'http://127.0.0.1:33418/callback/../evil'),
    redirect('a query added', 'http://127.0.0.1:33418/callback?x=1'),
    redirect('user information before the host', 'http://127.0.0.1:33418@evil.example/callback'),
    redirect('a backslash before the host', 'http://127.0.0.1:33418\\@evil.example/callback'),
    redirect('a host that begins like ours', 'http://127.0.0.1.evil.example/callback'),
    redirect('a fragment', 'http://127.0.0.1:33418/callback#x'),
    redirect('another loopback name', 'http://localhost:33418/callback'),
    redirect('a script', 'javascript:alert(document.cookie)'),
    redirect('a data URL', 'data:text/html,<script>alert(1)</script>'),
    attack('redirect_uri sent twice', 'a repeated parameter is refused', async (rig) => {
      const link = `${rig.link(rig.ann.client)}&redirect_uri=${encodeURIComponent('https://evil.example/callback')}`
      const { location } = await rig.ann.browser.get(link)
      assert.ok(location === null || location.startsWith(callback), String(location))
      assert.doesNotMatch(String(location), /[?&]code=/)
    }),
    atOurs('an unknown client', 'no client, no redirect', (rig) => rig.link('nobody')),
    atOurs('a pre-registered client with another’s redirect URI', 'compared exactly', (rig) =>
      rig.link('confidential'),
    ),
    toldWrong(
      'PKCE left out',
      'S256 for every client',
      { code_challenge: null, code_challenge_method: null },
      /invalid_request/,
    ),
    toldWrong(
      'PKCE downgraded to plain',
      'S256 alone',
      { code_challenge_method: 'plain' },
      /invalid_request/,
    ),
    toldWrong(
      'PKCE without its method (plain by default)',
      'S256 alone',
      { code_challenge_method: null },
      /invalid_request/,
    ),
    toldWrong(
      'implicit: response_type token',
      'code alone',
      { response_type: 'token' },
      /unsupported_response_type|invalid_request/,
    ),
    toldWrong(
      'hybrid: response_type code id_token',
      'code alone',
      { response_type: 'code id_token' },
      /unsupported_response_type|invalid_request/,
    ),
    toldWrong(
      'response_mode fragment',
      'query alone',
      { response_mode: 'fragment' },
      /invalid_request|unsupported/,
    ),
    toldWrong(
      'response_mode form_post to a page of the attacker',
      'query alone',
      { response_mode: 'form_post' },
      /invalid_request|unsupported/,
    ),
    toldWrong(
      'another resource',
      'one resource',
      { resource: 'https://other.example/mcp' },
      /invalid_target/,
    ),
    toldWrong(
      'a resource that begins like ours',
      'one resource',
      { resource: 'https://localhost.evil.example/mcp' },
      /invalid_target/,
    ),
    toldWrong(
      'a request object',
      'request objects are off',
      { request: 'e30.e30.' },
      /request_not_supported|invalid_request/,
    ),
    toldWrong(
      'a request object by reference (SSRF)',
      'request_uri is off',
      { request_uri: 'http://169.254.169.254/x' },
      /request_uri_not_supported|invalid_request/,
    ),
    code('a stolen code without its verifier', 'PKCE', (_rig, good) => ({ ...good, code_verifier: '' })),
    code('a stolen code with another verifier', 'PKCE', (_rig, good) => ({
      ...good,
      code_verifier: pkce().verifier,
    })),
    code('code injection: Ann’s code at Bob’s client', 'a code belongs to one client', (rig, good) => ({
      ...good,
      client_id: rig.bob.client.client_id,
    })),
    code('a code with another redirect URI', 'the redirect URI of the request', (_rig, good) => ({
      ...good,
      redirect_uri: 'http://127.0.0.1:1/callback',
    })),
    code('a code used twice', 'once; and everything that came of it ends', async (rig, good) => {
      const first = await rig.token(good)
      assert.equal(first.status, 200)
      return good
    }),
    code('a code for another resource', 'one resource', (_rig, good) => ({
      ...good,
      resource: 'https://other.example/mcp',
    })),
    code('a code in place of a refresh token', 'kinds are told apart', (_rig, good) => ({
      grant_type: 'refresh_token',
      refresh_token: good.code!,
      client_id: good.client_id!,
    })),
    attack('a confidential client without its secret', 'invalid_client', async (rig) => {
      const { status } = await rig.token({
        grant_type: 'refresh_token',
        refresh_token: 'x',
        client_id: 'confidential',
      })
      assert.equal(status, 401)
    }),
    attack('a confidential client with a guessed secret', 'invalid_client', async (rig) => {
      const authorization = `Basic ${Buffer.from('confidential:guess').toString('base64')}`
      const { status } = await rig.token(
        { grant_type: 'refresh_token', refresh_token: 'x' },
        { authorization },
      )
      assert.equal(status, 401)
    }),
    attack('a grant that is not offered: password', 'unsupported_grant_type', async (rig) => {
      const { status, body } = await rig.token({
        grant_type: 'password',
        username: users.ann.email,
        password: users.ann.password,
        client_id: rig.ann.client.client_id,
      })
      assert.equal(status, 400)
      assert.equal(body.access_token, undefined)
    }),
    attack(
      'mix-up: an answer that does not say who it is from',
      'iss in every answer (RFC 9207)',
      async (rig) => {
        const { location } = await rig.ann.browser.follow(
          await rig.ann.browser.get(rig.link(rig.ann.client)),
          callback,
        )
        assert.equal(new URL(location!).searchParams.get('iss'), rig.origin)
        const metadata = (await (
          await fetch(`${rig.origin}/.well-known/oauth-authorization-server`)
        ).json()) as object
        assert.equal(Object(metadata).authorization_response_iss_parameter_supported, true)
        assert.equal(Object(metadata).issuer, rig.origin)
      },
    ),
    attack(
      'mix-up: metadata for a Host of the attacker',
      'no URL of ours depends on a header',
      async (rig) => {
        for (const path of ['/.well-known/oauth-authorization-server', '/.well-known/openid-configuration']) {
          const { body, status } = await rig.send({
            method: 'GET',
            path,
            token: null,
            headers: {
              'x-forwarded-host': 'evil.example',
              'x-forwarded-proto': 'http',
              forwarded: 'host=evil.example',
            },
          })
          assert.equal(status, 200)
          assert.doesNotMatch(body, /evil\.example|http:\/\//)
        }
      },
    ),
    attack(
      'registration of a redirect to another site’s http',
      'https, loopback http, or an app’s own scheme',
      async (rig) => {
        await assert.rejects(
          rig.register({ redirect_uris: ['http://evil.example/cb'] }),
          /invalid_redirect_uri/,
        )
      },
    ),
    attack('registration with a wildcard', 'no wildcards', async (rig) => {
      await assert.rejects(rig.register({ redirect_uris: ['https://*.example/cb'] }), /invalid_redirect_uri/)
    }),
    attack(
      'registration for client credentials',
      'such clients are registered by an administrator',
      async (rig) => {
        await assert.rejects(rig.register({ grant_types: ['client_credentials'] }), /invalid_client_metadata/)
      },
    ),
    attack('consent skipped: prompt=none by a new client', 'consent once per client, first', async (rig) => {
      const client = await rig.register()
      const { location } = await rig.ann.browser.get(rig.link(client, { prompt: 'none' }))
      assert.match(String(location), /error=(consent|interaction)_required/)
    }),
    attack('a remembered consent used for more scopes', 'asked again for what is new', async (rig) => {
      const { client, browser } = rig.bob
      const { location } = await browser.get(
        rig.link(client, { scope: 'openid profile email mcp', prompt: 'none' }),
      )
      assert.match(String(location), /error=(consent|interaction)_required/)
    }),
    attack('Bob’s consent used for Ann', 'consent is a person’s own', async (rig) => {
      const { location } = await rig.ann.browser.get(rig.link(rig.bob.client, { prompt: 'none' }))
      assert.match(String(location), /error=(consent|interaction)_required/)
    }),
    attack('a nobody: prompt=none without a session', 'login_required', async (rig) => {
      const { location } = await new Browser().get(rig.link(rig.ann.client, { prompt: 'none' }))
      assert.match(String(location), /error=login_required/)
    }),
  ],
}
