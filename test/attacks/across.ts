import { strict as assert } from 'node:assert'
import { Browser } from '../control-plane/identity/browser.ts'
import { callback, pkce } from '../control-plane/identity/world.ts'
import { users } from '../rig/world.ts'
import { type Area, attack } from './case.ts'
import { type AttackRig, assertRefused } from './rig.ts'

const message = (method: string, params: object, id = 3): string =>
  JSON.stringify({ jsonrpc: '2.0', id, method, params })
const legacy = { 'mcp-protocol-version': '2025-11-25' }

const session = async (rig: AttackRig, token: string): Promise<string> => {
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'x', version: '1' } }
  const { headers, status } = await rig.send({ token, body: message('initialize', params) })
  assert.equal(status, 200)
  return String(headers['mcp-session-id'])
}
/** The link by which a person connects an account at the notes server. */
const connectLink = async (rig: AttackRig, token: string): Promise<string> => {
  const id = await session(rig, token)
  const { body } = await rig.send({
    token,
    headers: { ...legacy, 'mcp-session-id': id },
    body: message('tools/call', { name: 'notes_whoami', arguments: {} }),
  })
  const link = /https:\/\/[^\s"'<>)\]\\]+\/connections\/[^\s"'<>)\]\\]+/.exec(body)?.[0]
  assert.ok(link, body.slice(0, 300))
  return link
}
const refresh = (rig: AttackRig, clientId: string, token: string) =>
  rig.token({ grant_type: 'refresh_token', refresh_token: token, client_id: clientId })

export const across: Area = {
  title: 'From one person to another, and again with what was used',
  attacks: [
    attack('Ann’s session with Bob’s token', '404: a session belongs to one person', async (rig) => {
      const id = await session(rig, rig.ann.tokens.access_token)
      const answer = await rig.send({
        token: rig.bob.tokens.access_token,
        headers: { ...legacy, 'mcp-session-id': id },
      })
      assertRefused(answer, 404)
    }),
    attack('Bob ends Ann’s session', '404: a session belongs to one person', async (rig) => {
      const id = await session(rig, rig.ann.tokens.access_token)
      const headers = { ...legacy, 'mcp-session-id': id }
      assertRefused(
        await rig.send({ method: 'DELETE', body: '', token: rig.bob.tokens.access_token, headers }),
        404,
      )
      const ping = message('ping', {})
      assert.equal((await rig.send({ headers, body: ping })).status, 200, 'Ann goes on')
    }),
    attack('a session id with one character changed', '404: sealed', async (rig) => {
      const id = await session(rig, rig.ann.tokens.access_token)
      const at = Math.floor(id.length / 2)
      const changed = id.slice(0, at) + (id[at] === 'A' ? 'B' : 'A') + id.slice(at + 1)
      assertRefused(await rig.send({ headers: { ...legacy, 'mcp-session-id': changed } }), 404)
    }),
    attack('a session without a token', '401: a session is no authentication', async (rig) => {
      const id = await session(rig, rig.ann.tokens.access_token)
      assertRefused(await rig.send({ token: null, headers: { ...legacy, 'mcp-session-id': id } }), 401)
    }),
    attack(
      'a tool of a server that policy keeps for Ann, called by Bob',
      'policy, at the call',
      async (rig) => {
        const { body } = await rig.send({ token: rig.bob.tokens.access_token })
        assert.match(body, /Policy does not allow/)
        assert.doesNotMatch(body, /tweet/)
      },
    ),
    attack('the same by a prefix of another case', 'unknown tool', async (rig) => {
      const { body } = await rig.send({
        token: rig.bob.tokens.access_token,
        body: message('tools/call', { name: 'Canary_sing', arguments: {} }),
      })
      assert.doesNotMatch(body, /tweet/)
    }),
    attack('a listing that shows Bob what is Ann’s', 'one decision for listing and calling', async (rig) => {
      const id = await session(rig, rig.bob.tokens.access_token)
      const headers = { ...legacy, 'mcp-session-id': id }
      const { body } = await rig.send({
        token: rig.bob.tokens.access_token,
        headers,
        body: message('tools/list', {}),
      })
      assert.match(body, /everything_echo/)
      assert.doesNotMatch(body, /canary/)
    }),
    attack('Ann’s connect link opened by Bob', 'the browser’s person must be the token’s', async (rig) => {
      const link = await connectLink(rig, rig.ann.tokens.access_token)
      const page = await rig.bob.browser.follow(await rig.bob.browser.get(link), 'http://127.0.0.1')
      assert.ok(page.location === null, `Bob was sent on to ${page.location}`)
      assert.ok(page.status >= 400, String(page.status))
    }),
    attack('Ann’s connect link opened by nobody', 'sign-in first', async (rig) => {
      const link = await connectLink(rig, rig.ann.tokens.access_token)
      const page = await new Browser().get(link)
      assert.ok(page.location === null || new URL(page.location).origin === rig.origin)
      assert.doesNotMatch(String(page.location), /authorize/)
    }),
    attack(
      'a connect callback with a made-up state',
      'states are random, single use, bound to the browser',
      async (rig) => {
        const answer = await rig.ann.browser.get(`${rig.origin}/connections/callback?code=x&state=made-up`)
        assert.ok(answer.status >= 400, String(answer.status))
      },
    ),
    attack(
      'Bob’s credential for Ann: the inbound token passed on',
      'no token of ours goes to a server',
      async (rig) => {
        const before = rig.canary.calls.length
        const answer = await rig.send()
        assert.match(answer.body, /tweet/)
        const [headers] = rig.canary.calls.slice(before)
        rig.canary.calls.length = before
        assert.equal(headers?.authorization, undefined)
        assert.equal(JSON.stringify(headers).includes(rig.ann.tokens.access_token), false)
      },
    ),
    attack(
      'a credential header smuggled to the server',
      'headers of clients are not passed on',
      async (rig) => {
        const before = rig.canary.calls.length
        await rig.send({
          headers: { 'x-api-key': 'mine', cookie: 'a=b', 'x-forwarded-user': 'bob', 'mcp-param-x': '1' },
        })
        const [headers] = rig.canary.calls.slice(before)
        rig.canary.calls.length = before
        for (const name of ['x-api-key', 'cookie', 'x-forwarded-user', 'mcp-param-x', 'x-forwarded-for']) {
          assert.equal(headers?.[name], undefined, name)
        }
      },
    ),
    attack(
      'Bob refreshes with Ann’s refresh token at his client',
      'a token belongs to one client',
      async (rig) => {
        const { body } = await refresh(rig, rig.bob.client.client_id, rig.ann.tokens.refresh_token!)
        assert.equal(body.error, 'invalid_grant')
      },
    ),
    attack(
      'a refresh token used again after the grace window',
      'the whole grant ends, access tokens too',
      async (rig) => {
        const eve = await rig.enter('ann')
        const first = eve.tokens.refresh_token!
        const second = await refresh(rig, eve.client.client_id, first)
        assert.equal(second.status, 200)
        await new Promise((resolve) => setTimeout(resolve, 10_500))
        assert.equal((await refresh(rig, eve.client.client_id, first)).body.error, 'invalid_grant')
        const { body } = await refresh(rig, eve.client.client_id, second.body.refresh_token!)
        assert.equal(body.error, 'invalid_grant', 'the thief’s or the owner’s: both are out')
        const deadline = Date.now() + 10_000
        while (
          (await rig.send({ token: second.body.access_token, body: message('ping', {}) })).status !== 401
        ) {
          assert.ok(Date.now() < deadline, 'its access token still works')
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
      },
    ),
    attack('a refresh for more scope than was granted', 'invalid_scope', async (rig) => {
      const eve = await rig.enter('bob')
      const { body } = await rig.token({
        grant_type: 'refresh_token',
        refresh_token: eve.tokens.refresh_token!,
        client_id: eve.client.client_id,
        scope: 'mcp openid email',
      })
      assert.equal(body.error, 'invalid_scope')
    }),
    attack('a refresh for another resource', 'invalid_target', async (rig) => {
      const eve = await rig.enter('bob')
      const { body } = await rig.token({
        grant_type: 'refresh_token',
        refresh_token: eve.tokens.refresh_token!,
        client_id: eve.client.client_id,
        resource: 'https://other.example/mcp',
      })
      assert.equal(body.error, 'invalid_target')
    }),
    attack('Bob revokes Ann’s token', 'a client revokes its own', async (rig) => {
      const form = new URLSearchParams({
        token: rig.ann.tokens.access_token,
        client_id: rig.bob.client.client_id,
      })
      await fetch(`${rig.origin}/connect/revocation`, { method: 'POST', body: form })
      assert.equal((await rig.send({ body: message('ping', {}) })).status, 200)
    }),
    attack(
      'introspection of Ann’s token by a public client',
      'not active, for those who may not ask',
      async (rig) => {
        const form = new URLSearchParams({
          token: rig.ann.tokens.access_token,
          client_id: rig.ann.client.client_id,
        })
        const answer = await fetch(`${rig.origin}/connect/introspection`, { method: 'POST', body: form })
        assert.deepEqual(await answer.json(), { active: false })
      },
    ),
    attack('a cursor of Ann used by Bob', 'sealed for one person', async (rig) => {
      const { body } = await rig.send({
        token: rig.bob.tokens.access_token,
        body: message('tools/list', { cursor: Buffer.from('{"server":"canary"}').toString('base64url') }),
      })
      assert.match(body, /cursor/i)
    }),
    attack(
      'a code of Bob put into Ann’s agent (login CSRF)',
      'PKCE binds the code to the agent that asked',
      async (rig) => {
        const { email, password } = users.bob
        const code = await rig.codeFor(rig.bob.browser, rig.link(rig.bob.client), email, password)
        const { body } = await rig.token({
          grant_type: 'authorization_code',
          code,
          redirect_uri: callback,
          client_id: rig.bob.client.client_id,
          code_verifier: pkce().verifier,
        })
        assert.equal(body.error, 'invalid_grant')
      },
    ),
  ],
}
