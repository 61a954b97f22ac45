import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { proves } from '../../requirements.ts'
import { origin, resource, snapshot } from './fakes.ts'
import { rpc, startRig } from './rig.ts'

const body = rpc('tools/list')

t.test('no snapshot, a stale one, a confirmed one', async (t) => {
  proves(t, 'HTTP-25')
  const rig = await startRig({ cold: true })
  t.teardown(() => rig.close())
  const none = await rig.http1({ body })
  t.equal(none.status, 503)
  t.match(none.json.error.data, { reason: 'snapshot.none', retry: true })
  t.equal(rig.checks.get('proxy.snapshot')?.status, 'starting')
  t.equal(
    (await rig.http1({ body, token: null })).status,
    401,
    'who sends no token needs no policy to be told so',
  )
  t.equal((await rig.http1({ method: 'GET', path: '/.well-known/oauth-protected-resource' })).status, 503)

  await rig.give()
  t.equal(rig.checks.get('proxy.snapshot')?.status, 'running')
  t.equal((await rig.http1({ body })).status, 200)
  rig.clock.offset = 61_000
  const stale = await rig.http1({ body })
  t.equal(stale.status, 503)
  t.match(stale.json.error.data, { reason: 'snapshot.stale' })
  t.equal(rig.core.calls.length, 1)
  t.equal((await rig.http1({ method: 'GET', path: '/.well-known/oauth-protected-resource' })).status, 200)
  rig.edge.snapshots.confirm(7, rig.clock.now())
  t.equal((await rig.http1({ body })).status, 503, 'another version was confirmed')
  rig.edge.snapshots.confirm(1, rig.clock.now())
  t.equal((await rig.http1({ body })).status, 200)
  rig.edge.snapshots.confirm(1, rig.clock.now() - 120_000)
  t.equal((await rig.http1({ body })).status, 200, 'a confirmation that comes late does not make it older')
})

t.test('what does not verify is refused and the old one kept', async (t) => {
  proves(t, 'HTTP-26')
  const rig = await startRig()
  t.teardown(() => rig.close())
  const path = join(rig.dir, 'next.json')
  const put = async (value: unknown, version: number, digest?: string): Promise<void> => {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    await writeFile(path, text)
    await rig.edge.snapshot(
      { version, path, sha256: digest ?? createHash('sha256').update(text).digest('hex') },
      rig.clock.now(),
    )
  }
  const inForce = () => rig.edge.snapshots.latest?.snapshot.version
  await put(snapshot(2), 2, 'ab'.repeat(32))
  t.equal(inForce(), 1, 'another digest')
  await put({ ...snapshot(2), servers: [{}] }, 2)
  t.equal(inForce(), 1, 'another shape')
  await put('{', 2)
  t.equal(inForce(), 1, 'not JSON')
  await put(snapshot(3), 2)
  t.equal(inForce(), 1, 'another version than announced')
  await rig.edge.snapshot({ version: 2, path: join(rig.dir, 'gone.json'), sha256: '' }, rig.clock.now())
  t.equal(inForce(), 1, 'no file')
  t.equal(rig.checks.get('proxy.snapshot')?.status, 'running', 'the old one still serves')
  t.equal((await rig.http1({ body })).status, 200)
  await put(snapshot(5), 5)
  t.equal(inForce(), 5)
  await put(snapshot(4, { policies: [] }), 4)
  t.equal(inForce(), 5, 'no way back')
  t.throws(() => {
    ;(rig.edge.snapshots.latest!.snapshot.policies[0] as { active: boolean }).active = false
  }, 'frozen to the leaves')
})

t.test('protected resource metadata, both forms, any page, no token', async (t) => {
  proves(t, 'HTTP-24')
  const rig = await startRig()
  t.teardown(() => rig.close())
  const root = '/.well-known/oauth-protected-resource'
  for (const path of [root, `${root}/mcp`]) {
    for (const ask of [rig.http1, rig.http2]) {
      const answer = await ask({ method: 'GET', path, token: null, headers: { origin: 'https://any.test' } })
      t.equal(answer.status, 200)
      t.equal(answer.headers['access-control-allow-origin'], '*')
      t.strictSame(answer.json, {
        resource,
        authorization_servers: [origin],
        scopes_supported: ['mcp'],
        bearer_methods_supported: ['header'],
        resource_name: 'MCP Identity Gateway',
      })
    }
    const preflight = await rig.http1({
      method: 'OPTIONS',
      path,
      token: null,
      headers: { origin: 'https://any.test' },
    })
    t.strictSame([preflight.status, preflight.headers['access-control-allow-origin']], [204, '*'])
    t.equal((await rig.http1({ method: 'HEAD', path, token: null })).status, 200)
    t.equal((await rig.http1({ method: 'POST', path, token: null, body: '{}' })).status, 405)
  }
  t.equal((await rig.http1({ method: 'GET', path: `${root}/other`, token: null })).status, 404)
})
