import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Agent, fetch } from 'undici'
import { openDatabase } from '../../../services/control-plane/store/database.ts'
import { loadMasterKey } from '../../../services/control-plane/store/master-key.ts'
import { proves } from '../../requirements.ts'

// Starts the real process five times; on a busy machine that takes its time.
t.setTimeout(120_000)

const main = join(import.meta.dirname, '../../../services/control-plane/main.ts')
const good = `
tenant: { id: demo }
gateway: { url: "https://localhost:8443/mcp" }
identityProviders:
  - { id: local, type: directory, users: [{ email: ann@example.com, passwordHash: "$scrypt$ln=10,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }] }
authorizationServer: { accessTokenLifetime: 10m }
`

function scene(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'cp-'))
  const paths = { config: join(dir, 'config.yaml'), state: join(dir, 'state'), run: join(dir, 'run') }
  writeFileSync(paths.config, good)
  const children: ChildProcess[] = []
  t.teardown(() => {
    for (const child of children) if (child.exitCode === null) child.kill('SIGKILL')
    rmSync(dir, { recursive: true })
  })
  const start = (env: Record<string, string> = {}) => {
    const child = fork(main, [], {
      silent: true,
      env: {
        PATH: process.env.PATH,
        AEMBIT_CONFIG_PATH: paths.config,
        AEMBIT_STATE_DIR: paths.state,
        AEMBIT_RUNTIME_DIR: paths.run,
        ...env,
      },
    })
    children.push(child)
    const out = { stdout: '', stderr: '' }
    child.stdout?.on('data', (data) => {
      out.stdout += data
    })
    child.stderr?.on('data', (data) => {
      out.stderr += data
    })
    /** Resolves once the log holds `text`. */
    const said = async (text: string): Promise<void> => {
      while (!out.stdout.includes(text)) await once(child.stdout!, 'data')
    }
    return { child, out, said }
  }
  const ready = async (env?: Record<string, string>) => {
    const running = start(env)
    const [message] = await once(running.child, 'message')
    t.same(message, { type: 'ready' })
    return running
  }
  const get = async (path: string) => {
    const dispatcher = new Agent({ connect: { socketPath: join(paths.run, 'public.sock') } })
    try {
      const response = await fetch(`http://localhost${path}`, { dispatcher })
      return { status: response.status, body: (await response.json()) as Record<string, unknown> }
    } finally {
      await dispatcher.close()
    }
  }
  return { paths, start, ready, get }
}

t.test('starts, says ready, keeps its files to itself, reloads, refuses a second one, stops', async (t) => {
  const { paths, start, ready, get } = scene(t)
  const { child, out, said } = await ready()
  await said('"event":"ready"')
  for (const path of [paths.state, paths.run]) t.equal(statSync(path).mode & 0o777, 0o700, path)
  for (const path of ['admin-token', 'master-key', 'control-plane.db']) {
    t.equal(statSync(join(paths.state, path)).mode & 0o777, 0o600, path)
  }
  for (const path of ['public.sock', 'machine.sock']) {
    t.equal(statSync(join(paths.run, path)).mode & 0o777, 0o600, path)
  }
  const before = (await get('/.well-known/oauth-authorization-server')).body
  t.equal(before.issuer, 'https://localhost:8443')
  const keys = (await get('/.well-known/openid-configuration/jwks')).body

  writeFileSync(paths.config, good.replace('10m', '10 minutes').replace('id: local', 'id: "not an id"'))
  child.kill('SIGHUP')
  await said('"event":"config.kept"')
  t.match(out.stdout, /config\.yaml:5:.*no id/, 'the first problem')
  t.match(out.stdout, /config\.yaml:6:.*no duration/, 'and the second')
  t.same((await get('/.well-known/oauth-authorization-server')).body, before, 'what ran goes on')

  writeFileSync(
    paths.config,
    `${good.replace('{ accessTokenLifetime: 10m }', '{ dynamicClientRegistration: false }')}`,
  )
  child.kill('SIGHUP')
  await said('"event":"config.applied"')
  t.notOk(
    'registration_endpoint' in (await get('/.well-known/oauth-authorization-server')).body,
    'the new one rules',
  )

  const second = start()
  t.same(await once(second.child, 'exit'), [2, null])
  t.match(second.out.stderr, /public\.sock: another control plane listens there/)

  t.notMatch(out.stdout, new RegExp(readFileSync(join(paths.state, 'admin-token'), 'utf8').trim()))
  child.kill('SIGKILL')
  await once(child, 'exit')
  const again = await ready()
  t.same((await get('/.well-known/openid-configuration/jwks')).body, keys, 'the same keys after a kill -9')
  t.equal((await get('/api/v1/health')).status, 200, 'and its sockets were no hindrance')
  again.child.kill('SIGTERM')
  t.same(await once(again.child, 'exit'), [0, null])
  t.throws(() => statSync(join(paths.run, 'public.sock')))
})

t.test('what it can not start with: exit 2 and every problem', async (t) => {
  proves(t, 'CP-01')
  const { paths, start } = scene(t)
  const fails = async (env: Record<string, string>, ...wanted: RegExp[]) => {
    const { child, out } = start(env)
    t.same(await once(child, 'exit'), [2, null])
    for (const pattern of wanted) t.match(out.stderr, pattern)
  }
  await fails(
    { AEMBIT_LOG_LEVL: 'info', AEMBIT_STATE_DIR: 'relative' },
    /AEMBIT_LOG_LEVEL/,
    /AEMBIT_STATE_DIR/,
  )
  writeFileSync(
    paths.config,
    good.replace('https://localhost:8443/mcp', 'ftp://x').replace('tenant', 'tennant'),
  )
  await fails({}, /tennant/, /no URL/)
})

t.test('a master key that is none, or that others may read', async (t) => {
  proves(t, 'CP-02')
  const dir = t.testdir({})
  const key = join(dir, 'key')
  await t.rejects(loadMasterKey(key, false), { code: 'config.invalid', detail: /restore the key/ })
  const made = await loadMasterKey(key, true)
  t.same(await loadMasterKey(key, false), made)
  chmodSync(key, 0o644)
  await t.rejects(loadMasterKey(key, true), { code: 'config.invalid', detail: /may be read by others/ })
  chmodSync(key, 0o600)
  writeFileSync(key, 'c2hvcnQ=')
  await t.rejects(loadMasterKey(key, true), { code: 'config.invalid', detail: /32 bytes/ })
})

t.test('a database: private, migrated once, refused when it is newer or its history changed', async (t) => {
  const dir = t.testdir({ migrations: { '001-a.sql': 'CREATE TABLE a (x TEXT) STRICT;' } })
  const path = join(dir, 'x.db')
  const migrations = join(dir, 'migrations')
  openDatabase(path, migrations).close()
  t.equal(statSync(path).mode & 0o777, 0o600)
  writeFileSync(
    join(migrations, '101-b.sql'),
    'CREATE TABLE b (x TEXT) STRICT; INSERT INTO missing VALUES (1);',
  )
  t.throws(() => openDatabase(path, migrations), { code: 'config.invalid' }, 'a broken one')
  writeFileSync(join(migrations, '101-b.sql'), 'CREATE TABLE b (x TEXT) STRICT;')
  const db = openDatabase(path, migrations)
  t.equal(db.prepare('SELECT count(*) AS n FROM migration').get()?.n, 2, 'nothing of the broken one stayed')
  t.equal(db.prepare('PRAGMA foreign_keys').get()?.foreign_keys, 1)
  t.equal(db.prepare('PRAGMA journal_mode').get()?.journal_mode, 'wal')
  db.close()
  rmSync(join(migrations, '101-b.sql'))
  t.throws(() => openDatabase(path, migrations), { code: 'config.invalid', detail: /newer version.*101-b/ })
  writeFileSync(join(migrations, '101-b.sql'), 'CREATE TABLE c (x TEXT) STRICT;')
  t.throws(() => openDatabase(path, migrations), { code: 'config.invalid', detail: /101-b\.sql differs/ })
  writeFileSync(
    join(dir, 'not.db'),
    'this is no database, but it is long enough to be looked at as one'.repeat(20),
  )
  t.throws(() => openDatabase(join(dir, 'not.db'), migrations), { code: 'config.invalid' })
})
