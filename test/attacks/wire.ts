import { strict as assert } from 'node:assert'
import { type Area, type Attack, attack } from './case.ts'
import { type AttackRig, assertRefused, assertUnauthorized, canaryCall } from './rig.ts'

const path = (name: string, target: string): Attack =>
  attack(`the machine API by ${name}`, 'another socket, which nothing relays', async (rig) => {
    for (const method of ['GET', 'POST']) {
      const { status, body } = await rig.send({ method, path: target, body: method === 'GET' ? '' : '{}' })
      assert.ok(status >= 400 && status < 500, `${method} ${status} ${body.slice(0, 200)}`)
      assert.doesNotMatch(body, /snapshotJwks|accessToken|"version"/)
    }
  })
/** Bytes on the wire; `sees` judges all that came back. The canary stays silent in any case. */
const bytes = (name: string, refusal: string, make: (rig: AttackRig) => string, sees: RegExp): Attack =>
  attack(name, refusal, async (rig) => {
    const text = await rig.raw(make(rig))
    assert.match(text, sees)
    assert.doesNotMatch(text, /tweet/)
  })
const head = (rig: AttackRig, more: string, token = ''): string =>
  `POST /mcp HTTP/1.1\r\nhost: ${rig.host}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n${token}${more}`
const good = (rig: AttackRig): string => `authorization: Bearer ${rig.ann.tokens.access_token}\r\n`

export const wire: Area = {
  title: 'Paths, headers and bytes',
  attacks: [
    path('its path', '/gateway/v1/snapshot'),
    path('its path, credentials', '/gateway/v1/credentials'),
    path('its path, registration', '/controller/v1/registrations'),
    path('an encoded slash', '/%67ateway%2fv1%2fsnapshot'),
    path('dot segments', '/interaction/../gateway/v1/snapshot'),
    path('encoded dot segments', '/interaction/%2e%2e/gateway/v1/snapshot'),
    path('double encoding', '/%252e%252e/gateway/v1/snapshot'),
    path('double slashes', '//gateway//v1//snapshot'),
    path('a backslash', '/x\\..\\gateway\\v1\\snapshot'),
    path('an absolute form', 'http://machine.sock/gateway/v1/snapshot'),
    path('a path parameter', '/gateway;x=1/v1/snapshot'),
    path('a null byte', '/gateway/v1/snapshot%00'),
    attack('the administrators’ API without their token', '401', async (rig) => {
      for (const target of [
        '/api/v1/workload-events',
        '/api/v1/kill-switch',
        '/api/v1/audit-logs',
        '/API/v1/../v1/kill-switch',
      ]) {
        const { status } = await rig.send({ method: 'GET', path: target })
        assert.ok(status === 401 || status === 404, `${target} ${status}`)
      }
    }),
    attack('the administrators’ API with a person’s token', '401', async (rig) => {
      const { status } = await rig.send({
        path: '/api/v1/kill-switch',
        body: '{"kind":"user","value":"bob@example.com","reason":"x"}',
      })
      assert.equal(status, 401)
    }),
    bytes(
      'two Authorization headers, a good one first',
      '401: exactly one',
      (rig) =>
        `${head(rig, `content-length: ${canaryCall.length}\r\nconnection: close\r\n\r\n`, `${good(rig)}authorization: Bearer x\r\n`)}${canaryCall}`,
      /^HTTP\/1\.1 40[01]/,
    ),
    bytes(
      'two Authorization headers, a good one last',
      '401: exactly one',
      (rig) =>
        `${head(rig, `content-length: ${canaryCall.length}\r\nconnection: close\r\n\r\n`, `authorization: Bearer x\r\n${good(rig)}`)}${canaryCall}`,
      /^HTTP\/1\.1 40[01]/,
    ),
    bytes(
      'request smuggling: Content-Length and Transfer-Encoding',
      'refused and closed',
      (rig) => {
        const inner = `${head(rig, `content-length: ${canaryCall.length}\r\n\r\n`, good(rig))}${canaryCall}`
        return `${head(rig, 'content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n')}0\r\n\r\n${inner}`
      },
      /^HTTP\/1\.1 40[01]|^$/,
    ),
    bytes(
      'request smuggling: two Content-Lengths',
      'refused and closed',
      (rig) => `${head(rig, 'content-length: 0\r\ncontent-length: 44\r\n\r\n')}${canaryCall}`,
      /^HTTP\/1\.1 400|^$/,
    ),
    bytes(
      'request smuggling: a disguised Transfer-Encoding',
      'refused and closed',
      (rig) => `${head(rig, 'transfer-encoding: xchunked\r\ncontent-length: 3\r\n\r\n', good(rig))}0\r\n`,
      /^HTTP\/1\.1 (4\d\d|501)|^$/,
    ),
    bytes(
      'request smuggling: a bare line feed in a header',
      'refused and closed',
      (rig) =>
        `${head(rig, `x: y\nauthorization: Bearer x\r\ncontent-length: ${canaryCall.length}\r\n\r\n`)}${canaryCall}`,
      /^HTTP\/1\.1 40[01]|^$/,
    ),
    bytes(
      'request smuggling: a space before the colon',
      'refused and closed',
      (rig) =>
        `${head(rig, `authorization : Bearer x\r\ncontent-length: ${canaryCall.length}\r\n\r\n`)}${canaryCall}`,
      /^HTTP\/1\.1 40[01]|^$/,
    ),
    bytes(
      'a folded Authorization header',
      'refused and closed',
      (rig) =>
        `${head(rig, `authorization: Bearer\r\n ${rig.ann.tokens.access_token}\r\ncontent-length: 0\r\n\r\n`)}`,
      /^HTTP\/1\.1 40[01]|^$/,
    ),
    bytes(
      'two Host headers',
      'refused',
      (rig) =>
        `${head(rig, `host: evil.example\r\ncontent-length: ${canaryCall.length}\r\nconnection: close\r\n\r\n`, good(rig))}${canaryCall}`,
      /^HTTP\/1\.1 40[03]/,
    ),
    bytes(
      'two Host headers on the way to a page',
      'refused',
      (rig) =>
        `GET /sign-in HTTP/1.1\r\nhost: ${rig.host}\r\nhost: evil.example\r\nconnection: close\r\n\r\n`,
      /^HTTP\/1\.1 40[03]/,
    ),
    attack('a Host that is not ours (DNS rebinding of the browser)', '403', async (rig) =>
      assertRefused(await rig.send({ headers: { host: 'evil.example' } }), 403, 421),
    ),
    attack('an Origin that is not ours', '403', async (rig) =>
      assertRefused(await rig.send({ headers: { origin: 'https://evil.example' } }), 403),
    ),
    attack('Origin null (a sandboxed frame)', '403', async (rig) =>
      assertRefused(await rig.send({ headers: { origin: 'null' } }), 403),
    ),
    attack('a PROXY header in the TLS stream', 'TLS ends before: not HTTP', async (rig) => {
      const text = await rig.raw(
        `PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n${head(rig, 'content-length: 0\r\n\r\n', good(rig))}`,
      )
      assert.doesNotMatch(text, /^HTTP\/1\.1 200/)
    }),
    attack(
      'an address of the attacker’s choice (X-Forwarded-For)',
      'the address is that of the connection',
      async (rig) => {
        const wrong = () =>
          rig.send({
            method: 'GET',
            path: '/api/v1/kill-switch',
            headers: { 'x-forwarded-for': `203.0.113.${Math.floor(Math.random() * 250)}` },
          })
        let last = 0
        for (let i = 0; i < 40 && last !== 429; i++) last = (await wrong()).status
        assert.equal(last, 429, 'wrong tokens are counted by the true address')
      },
    ),
    attack('method override to get past the token', '401', async (rig) =>
      assertUnauthorized(await rig.send({ token: null, headers: { 'x-http-method-override': 'OPTIONS' } })),
    ),
    attack('a scheme that only looks like Bearer', '401', async (rig) =>
      assertUnauthorized(
        await rig.send({ token: null, headers: { authorization: `Bearerx ${rig.ann.tokens.access_token}` } }),
      ),
    ),
    attack('the token after a comma', '401', async (rig) =>
      assertUnauthorized(
        await rig.send({
          token: null,
          headers: { authorization: `Basic eA==, Bearer ${rig.ann.tokens.access_token}` },
        }),
      ),
    ),
  ],
}
