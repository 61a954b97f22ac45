import t from 'tap'
import { proves } from '../../requirements.ts'
import { ok, post, startLegacy } from './legacy-server.ts'
import { startRig } from './rig.ts'

t.test('what goes to a server: its credential, nothing of the client', async (t) => {
  proves(t, 'CRED-01')
  const rig = await startRig()
  const server = await startLegacy(ok)
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url, credential: 'required' }])
  rig.credentials.answer = () => ({
    kind: 'headers',
    headers: [{ name: 'Authorization', value: 'Bearer anns-own' }],
    expiresAt: null,
    credentialProviderId: 'cp',
  })
  await post(
    rig,
    'tools/call',
    { name: 'a_go', _meta: { mine: 1, 'io.modelcontextprotocol/x': 1 } },
    {
      authorization: 'Bearer agents-token',
      cookie: 'a=b',
      'x-forwarded-for': '1.2.3.4',
      'mcp-name': 'a_go',
    },
  )
  const { headers, body } = server.seen.at(-1)!
  t.equal(headers.authorization, 'Bearer anns-own')
  for (const name of ['cookie', 'x-forwarded-for', 'mcp-name']) t.notOk(headers[name], name)
  t.notMatch(JSON.stringify(server.seen), /agents-token/)
  t.same(body, {
    jsonrpc: '2.0',
    id: body.id,
    method: 'tools/call',
    params: { name: 'go', _meta: { mine: 1 } },
  })
})

t.test('a credential that the server refuses is asked for anew, once', async (t) => {
  proves(t, 'CRED-02')
  const rig = await startRig()
  let good = 'second'
  const server = await startLegacy((body, response, request) =>
    request.headers.authorization === `Bearer ${good}` ? ok(body, response) : response.writeHead(401).end(),
  )
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url, credential: 'required' }])
  const asked: (string | undefined)[] = []
  rig.credentials.answer = (_server, rejected) => {
    asked.push(rejected)
    const value = rejected ? 'Bearer second' : 'Bearer first'
    return {
      kind: 'headers',
      headers: [{ name: 'authorization', value }],
      expiresAt: null,
      credentialProviderId: 'cp',
    }
  }
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'ok' }] })
  t.equal(asked.length, 2)
  t.match(asked[1], /^[\w-]{43}$/, 'told by digest which one was refused')
  good = 'none'
  t.equal((await post(rig, 'tools/call', { name: 'a_go' })).last.error?.code, 5022)
  t.equal(asked.length, 4, 'no third try')
})

t.test('an account that is not connected yet', async (t) => {
  proves(t, 'CRED-03')
  const rig = await startRig()
  let connected = false
  const server = await startLegacy(ok)
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'notes', url: server.url, credential: 'required' }])
  rig.credentials.answer = () =>
    connected
      ? { kind: 'headers', headers: [], expiresAt: null, credentialProviderId: 'cp' }
      : {
          kind: 'authorization_required',
          url: 'https://gw.test/connect',
          message: 'Connect Notes.',
          elicitationId: 'e1',
        }

  const names = async () =>
    ((await post(rig, 'tools/list')).last.result!.tools as { name: string }[]).map(({ name }) => name)
  t.same(await names(), ['notes_connect'], 'one tool says what to do')
  for (const name of ['notes_go', 'notes_connect']) {
    const plain = (await post(rig, 'tools/call', { name })).last
    t.match(plain.result, { isError: true, content: [{ text: /https:\/\/gw\.test\/connect/ }] })
  }

  const initialized = await post(rig, 'initialize', {
    protocolVersion: '2025-11-25',
    capabilities: { elicitation: { url: {} } },
    clientInfo: { name: 'c', version: '1' },
  })
  const session = { 'mcp-session-id': initialized.headers.get('mcp-session-id')! }
  const elicited = (await post(rig, 'tools/call', { name: 'notes_go' }, session)).last
  t.match(elicited.error, {
    code: -32042,
    data: { elicitations: [{ mode: 'url', url: 'https://gw.test/connect', elicitationId: 'e1' }] },
  })

  const meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': { elicitation: { url: {} } },
  }
  const modern = (await post(rig, 'tools/call', { name: 'notes_go', _meta: meta })).last.result!
  t.match(modern, {
    resultType: 'input_required',
    inputRequests: { e1: { method: 'elicitation/create', params: { mode: 'url' } } },
  })

  t.equal(server.seen.length, 0, 'the server was not bothered so far')
  connected = true
  const retry = {
    name: 'notes_go',
    requestState: modern.requestState,
    inputResponses: { e1: { action: 'accept' } },
    _meta: meta,
  }
  t.match((await post(rig, 'tools/call', retry)).last.result, {
    resultType: 'complete',
    content: [{ text: 'ok' }],
  })
  t.notMatch(
    JSON.stringify(server.seen.at(-1)?.body),
    /requestState|inputResponses/,
    'our own question stays with us',
  )
  t.match((await post(rig, 'tools/call', { name: 'notes_connect' })).last.result, {
    content: [{ text: /is connected/ }],
  })
  t.same(await names(), ['notes_go'])
})

t.test('a server that demands more scope', async (t) => {
  const rig = await startRig()
  const server = await startLegacy((body, response, request) =>
    request.headers.authorization === 'Bearer wide'
      ? ok(body, response)
      : response
          .writeHead(403, { 'www-authenticate': 'Bearer error="insufficient_scope", scope="read write"' })
          .end(),
  )
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url, credential: 'required' }])
  const asked: (string | undefined)[] = []
  let given: 'narrow' | 'link' | 'wide' = 'link'
  rig.credentials.answer = (_server, rejected, _principal, scope) => {
    asked.push(scope)
    if (scope !== undefined && given === 'link') {
      return {
        kind: 'authorization_required',
        url: 'https://gw.test/more',
        message: 'More.',
        elicitationId: 'e2',
      }
    }
    const value = scope !== undefined && given === 'wide' ? 'Bearer wide' : 'Bearer narrow'
    t.equal(rejected, undefined, 'the token is not bad')
    return {
      kind: 'headers',
      headers: [{ name: 'authorization', value }],
      expiresAt: null,
      credentialProviderId: 'cp',
    }
  }
  const call = async () => (await post(rig, 'tools/call', { name: 'a_go' })).last
  t.match((await call()).result, { isError: true, content: [{ text: /https:\/\/gw\.test\/more/ }] })
  t.same(asked, [undefined, 'read write'])
  given = 'wide'
  t.match((await call()).result, { content: [{ text: 'ok' }] })
  given = 'narrow'
  t.equal((await call()).error?.code, 5022, 'the same token again is not tried')
  t.equal(asked.length, 6)
})

t.test('tools that are the same for everyone stay listed for who has no account yet', async (t) => {
  proves(t, 'CRED-42')
  const rig = await startRig()
  const server = await startLegacy(ok)
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  const listed = async (subject: string) =>
    (
      (await post(rig, 'tools/list', {}, { 'x-subject': subject })).last.result!.tools as { name: string }[]
    ).map(({ name }) => name)
  rig.credentials.answer = (_server, _rejected, principal) =>
    principal?.subject === 'ann'
      ? { kind: 'headers', headers: [], expiresAt: null, credentialProviderId: 'cp' }
      : {
          kind: 'authorization_required',
          url: 'https://gw.test/connect',
          message: 'Connect Notes.',
          elicitationId: 'e1',
        }
  const one = { prefix: 'notes', url: server.url, credential: 'required' as const }
  rig.setServers([one])
  t.same(await listed('ann'), ['notes_go'])
  t.same(await listed('bob'), ['notes_connect'], 'what one person sees is never shown to another')
  rig.setServers([{ ...one, id: 'public', publicTools: true }])
  t.same(await listed('carl'), ['notes_connect'], 'nobody asked so far')
  t.same(await listed('ann'), ['notes_go'])
  t.same(await listed('bob'), ['notes_go'])
  t.match((await post(rig, 'tools/call', { name: 'notes_go' }, { 'x-subject': 'bob' })).last.result, {
    isError: true,
    content: [{ text: /https:\/\/gw\.test\/connect/ }],
  })
})
