import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test, test } from 'tap'
import { createSealer } from '../../../services/control-plane/credentials/sealer.ts'
import { createVault } from '../../../services/control-plane/credentials/vault.ts'
import { openDatabase } from '../../../services/control-plane/store/database.ts'
import { lockState } from '../../../services/control-plane/store/lock.ts'
import { rotateMasterKey } from '../../../services/control-plane/store/rotate.ts'
import { sealedColumns } from '../../../services/control-plane/store/sealed-columns.ts'
import { systemClock } from '../../../shared/clock.ts'
import { proves } from '../../requirements.ts'

// Starts the real process several times; on a busy machine that takes its time.
t.setTimeout(240_000)

const yaml = `tenant: {id: acme}
gateway: {url: "https://gw.example/mcp"}
identityProviders: [{id: local, type: directory}]
`
const key = { issuer: 'i', subject: 'ann', serverId: 's', providerId: 'p' }
const tokens = {
  accessToken: 'the-access-token',
  refreshToken: 'r',
  clientId: 'c',
  server: { issuer: 'i', authorization_endpoint: 'a', token_endpoint: 't' },
}

/** A state folder in which a control plane ran once, with a connection of Ann's in it. */
async function used(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'rotate-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const config = join(dir, 'config.yaml')
  writeFileSync(config, yaml)
  const state = join(dir, 'state')
  const env = {
    PATH: process.env.PATH,
    AEMBIT_CONFIG_PATH: config,
    AEMBIT_STATE_DIR: state,
    AEMBIT_RUNTIME_DIR: join(dir, 'run'),
    AEMBIT_LOG_LEVEL: 'error',
  }
  const run = (script: string, ...args: string[]): ChildProcess =>
    spawn(process.execPath, [join('services/control-plane', script), ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
  const start = async () => {
    const child = run('main.ts')
    const errors = text(child.stderr!)
    const ready = once(child, 'message').then(() => '')
    return { child, said: await Promise.race([ready, errors]) }
  }
  const stop = async (child: ChildProcess) => {
    child.kill('SIGTERM')
    await once(child, 'exit')
  }
  const { child, said } = await start()
  if (said) throw new Error(said)
  await stop(child)
  const keyPath = join(state, 'master-key')
  const keyOf = (path = keyPath): Buffer => Buffer.from(readFileSync(path, 'utf8').trim(), 'base64')
  const withVault = <T>(masterKey: Buffer, use: (vault: ReturnType<typeof createVault>) => T): T => {
    const db = openDatabase(join(state, 'control-plane.db'))
    try {
      return use(createVault(db, createSealer(masterKey), systemClock))
    } finally {
      db.close()
    }
  }
  withVault(keyOf(), (vault) => vault.connect(key, { tokens, scopes: '', expiresAt: null }, null, ''))
  return { dir, state, keyPath, keyOf, run, start, stop, withVault }
}

test('the command seals everything under a new key; the former one is refused afterwards', async (t) => {
  proves(t, 'CRED-28')
  const { keyPath, keyOf, run, start, stop, withVault, state } = await used(t)
  const former = keyOf()
  copyFileSync(keyPath, `${keyPath}.former`)

  const running = await start()
  const refused = run('cli/main.ts', 'rotate-master-key')
  t.match(await text(refused.stderr!), /is in use by another control plane/)
  await stop(running.child)
  t.ok(keyOf().equals(former), 'nothing changed while it ran')

  const done = run('cli/main.ts', 'rotate-master-key')
  t.match(await text(done.stdout!), /^[1-9]\d* values are sealed under the new key/)
  t.notOk(keyOf().equals(former))
  t.equal(statSync(keyPath).mode & 0o777, 0o600)
  t.notOk(existsSync(`${keyPath}.next`))
  t.equal(
    withVault(keyOf(), (vault) => vault.open(key).accessToken),
    'the-access-token',
  )
  t.throws(() => withVault(former, (vault) => vault.open(key)), { code: 'internal' })
  const again = await start()
  t.equal(again.said, '', 'the control plane starts with the new key')
  await stop(again.child)

  copyFileSync(`${keyPath}.former`, keyPath)
  const { said } = await start()
  t.match(said, /is sealed under another key/)
  t.match(readFileSync(join(state, 'control-plane.db')).indexOf(Buffer.from('the-access-token')), -1)
})

test('interrupted at any point, the next run finishes it', async (t) => {
  proves(t, 'CRED-29')
  const { state, keyPath, keyOf, withVault } = await used(t)
  const opened = () => withVault(keyOf(), (vault) => vault.open(key).accessToken)
  const former = keyOf()

  // Within the transaction: some values are sealed again, none of it is committed.
  let left = 3
  const failing = (current: Buffer, formerKeys: readonly Buffer[]) => {
    const sealer = createSealer(current, formerKeys)
    return {
      ...sealer,
      seal: (plain: Buffer, context: string) => {
        if (formerKeys.length > 0 && left-- === 0) throw new Error('pulled the plug')
        return sealer.seal(plain, context)
      },
    }
  }
  await t.rejects(rotateMasterKey({ stateDir: state, keyPath, createSealer: failing }), /pulled the plug/)
  t.ok(keyOf().equals(former))
  t.equal(opened(), 'the-access-token', 'everything is as it was')

  // After the transaction, before the key took its place.
  copyFileSync(keyPath, `${keyPath}.kept`)
  await rotateMasterKey({ stateDir: state, keyPath, createSealer })
  copyFileSync(keyPath, `${keyPath}.next`)
  copyFileSync(`${keyPath}.kept`, keyPath)
  t.match(await rotateMasterKey({ stateDir: state, keyPath, createSealer }), { count: 0 })
  t.equal(opened(), 'the-access-token')
  t.notOk(keyOf().equals(former))
})

test('a key that lives elsewhere, as a systemd credential does, stays there', async (t) => {
  const { dir, state, keyPath, keyOf, withVault } = await used(t)
  const elsewhere = join(dir, 'new-key')
  const rotated = await rotateMasterKey({ stateDir: state, keyPath, newKeyPath: elsewhere, createSealer })
  t.equal(rotated.keyPath, elsewhere)
  t.equal(
    withVault(keyOf(elsewhere), (vault) => vault.open(key).accessToken),
    'the-access-token',
  )
  await t.rejects(
    rotateMasterKey({ stateDir: state, keyPath: elsewhere, newKeyPath: elsewhere, createSealer }),
    { code: 'config.invalid' },
  )
})

test('no sealed column is forgotten', (t) => {
  const db = openDatabase(':memory:')
  t.teardown(() => db.close())
  const tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all()
  const blobs = tables.flatMap(({ name }) =>
    db
      .prepare(`SELECT name FROM pragma_table_info('${String(name)}') WHERE type = 'BLOB'`)
      .all()
      .map((column) => `${String(name)}.${String(column.name)}`),
  )
  const known = sealedColumns.map(({ table, column }) => `${table}.${column}`)
  // An HMAC: codes of ten minutes, checked under a sealed secret.
  t.same(blobs.filter((name) => name !== 'device_code.code_mac').sort(), [...known].sort())
  t.end()
})

test('a state folder has one owner, until it ends', (t) => {
  proves(t, 'CRED-54')
  const dir = mkdtempSync(join(tmpdir(), 'lock-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const unlock = lockState(dir)
  t.throws(() => lockState(dir), { code: 'config.invalid' })
  unlock()
  lockState(dir)()
  t.end()
})
