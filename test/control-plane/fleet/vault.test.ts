import { randomBytes } from 'node:crypto'
import { test } from 'tap'
import { createSealer } from '../../../services/control-plane/credentials/sealer.ts'
import { createVault } from '../../../services/control-plane/credentials/vault.ts'
import { createIdpTokens } from '../../../services/control-plane/identity/idp-tokens.ts'
import { openDatabase } from '../../../services/control-plane/store/database.ts'
import { systemClock } from '../../../shared/clock.ts'
import { proves } from '../../requirements.ts'

const keyOf = (subject: string, serverId = 'notes') => ({
  issuer: 'https://gw.example',
  subject,
  serverId,
  providerId: 'account',
})
const tokensOf = (name: string) => ({
  tokens: {
    accessToken: `access-of-${name}`,
    refreshToken: `refresh-of-${name}`,
    clientId: 'client',
    resource: 'https://notes.example/mcp',
    server: {
      issuer: 'https://as.example',
      authorization_endpoint: 'https://as.example/auth',
      token_endpoint: 'https://as.example/token',
    },
  },
  scopes: 'notes',
  expiresAt: Date.now() + 60_000,
})

function open() {
  const db = openDatabase(':memory:')
  return { db, vault: createVault(db, createSealer(randomBytes(32)), systemClock) }
}

test('sealed values open with their context alone, and no two look alike', async (t) => {
  proves(t, 'CRED-14')
  const key = randomBytes(32)
  const sealer = createSealer(key)
  const plain = Buffer.from('a secret')
  const one = sealer.seal(plain, 'row one')
  t.same(sealer.open(one, 'row one'), plain)
  t.notSame(sealer.seal(plain, 'row one'), one, 'a nonce of its own')
  t.throws(() => sealer.open(one, 'row two'), { code: 'internal' })
  t.throws(() => createSealer(randomBytes(32)).open(one, 'row one'), { code: 'internal' })
  t.same(createSealer(randomBytes(32), [key]).open(one, 'row one'), plain, 'a former key still opens')
  for (let at = 0; at < one.length; at += 1) {
    const changed = Buffer.from(one)
    changed[at]! ^= 1
    t.throws(() => sealer.open(changed, 'row one'), { code: 'internal' }, `byte ${at} changed`)
  }
  t.throws(() => sealer.open(Buffer.alloc(10), 'row one'), { code: 'internal' })
  t.throws(() => createSealer(randomBytes(16)), { code: 'config.invalid' })
})

test('rows that were swapped do not open', async (t) => {
  const { db, vault } = open()
  vault.connect(keyOf('ann'), tokensOf('ann'), null, '')
  vault.connect(keyOf('bob'), tokensOf('bob'), null, '')
  t.equal(vault.open(keyOf('ann')).accessToken, 'access-of-ann')
  const sealed = (name: string) =>
    db.prepare('SELECT sealed FROM user_credential WHERE subject = ?').get(name)!.sealed as Uint8Array
  const [ann, bob] = [sealed('ann'), sealed('bob')]
  t.notMatch(Buffer.from(ann).toString('latin1'), /access-of|refresh-of/, 'nothing readable is stored')
  const put = db.prepare('UPDATE user_credential SET sealed = ? WHERE subject = ?')
  put.run(bob, 'ann')
  put.run(ann, 'bob')
  for (const name of ['ann', 'bob']) t.throws(() => vault.open(keyOf(name)), { code: 'internal' })
  db.prepare("UPDATE user_credential SET subject = 'eve' WHERE subject = 'ann'").run()
  t.throws(() => vault.open(keyOf('eve')), { code: 'internal' }, 'a renamed row')
})

test('keys that would run together are different keys', async (t) => {
  const { vault } = open()
  const one = { issuer: 'a', subject: 'b","c', serverId: 'd', providerId: 'e' }
  const two = { issuer: 'a', subject: 'b', serverId: 'c","d', providerId: 'e' }
  vault.connect(one, tokensOf('one'), null, '')
  t.equal(vault.find(two), undefined)
})

test('a connection in place of one that was removed is not taken for it', async (t) => {
  proves(t, 'CRED-101')
  const { vault } = open()
  vault.connect(keyOf('ann'), tokensOf('former'), 'former@notes', '')
  const read = vault.find(keyOf('ann'))!
  vault.remove(keyOf('ann'))
  vault.connect(keyOf('ann'), tokensOf('other'), 'other@notes', '')
  t.notOk(vault.swap(read, tokensOf('late')))
  t.notOk(vault.markBroken(read, 'invalid_grant'))
  vault.noteError(read, 'refresh failed')
  t.match(vault.find(keyOf('ann')), { state: 'connected', account: 'other@notes', lastError: null })
  t.equal(vault.open(keyOf('ann')).accessToken, 'access-of-other')
})

test('a sign-in after a sign-out is not taken for the former one', async (t) => {
  proves(t, 'CRED-101')
  const tokens = createIdpTokens(openDatabase(':memory:'), createSealer(randomBytes(32)), systemClock)
  const of = (name: string) => ({ idToken: `id-${name}`, refreshToken: `refresh-${name}` })
  tokens.keep('corp', 'ann', of('former'))
  const read = tokens.find('corp', 'ann')!
  t.ok(tokens.swap(read, of('renewed')))
  tokens.forget('ann')
  tokens.keep('corp', 'ann', of('new'))
  t.notOk(tokens.swap(read, of('late')))
  t.notOk(tokens.swap({ ...read, version: read.version + 1 }, of('late')))
  tokens.end({ ...read, version: read.version + 1 })
  const now = tokens.find('corp', 'ann')!
  t.strictSame(tokens.open(now), of('new'))
  tokens.keep('corp', 'ann', of('again'))
  t.notOk(tokens.swap(now, of('late')), 'nor is a sign-in on top of one')
})

test('a swap takes the row that was read', async (t) => {
  const { vault } = open()
  vault.connect(keyOf('ann'), tokensOf('ann'), 'ann@notes', '')
  const read = vault.find(keyOf('ann'))!
  t.ok(vault.swap(read, tokensOf('newer')))
  t.notOk(vault.swap(read, tokensOf('older')), 'the row has changed')
  t.equal(vault.open(read).accessToken, 'access-of-newer')
  t.notOk(vault.markBroken(read, 'invalid_grant'), 'neither is it broken by who read the former one')
  vault.remove(keyOf('ann'))
  t.notOk(vault.swap(vault.find(keyOf('ann')) ?? read, tokensOf('late')))
  t.same(vault.list('https://gw.example', 'ann'), [])
})
