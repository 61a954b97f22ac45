import { generateKeyPair, SignJWT } from 'jose'
import { type Test, test } from 'tap'
import { proves } from '../../requirements.ts'
import { signIn, startPlane, tokenOf } from '../fleet/credential-rig.ts'
import { form, standIn } from './stand-ins.ts'

const loopback = ['127.0.0.0/8']
const { privateKey } = await generateKeyPair('RS256')

const idToken = (issuer: string): Promise<string> =>
  new SignJWT({ email: 'ann@accounts.example' })
    .setProtectedHeader({ alg: 'RS256' })
    .setIssuer(issuer)
    .setSubject('1')
    .setAudience('ours')
    .setIssuedAt()
    .setExpirationTime('10y')
    .sign(privateKey)

/** An authorization server whose ID tokens are of `issuer`, or of itself. */
async function scene(t: Test, more: (origin: string) => Record<string, unknown>, issuer?: string) {
  let id = ''
  let count = 0
  const as = await standIn(t, ({ path, body }) => {
    if (path.endsWith('/.well-known/oauth-authorization-server')) {
      return {
        body: {
          issuer: as.origin,
          authorization_endpoint: `${as.origin}/authorize`,
          token_endpoint: `${as.origin}/token`,
          code_challenge_methods_supported: ['S256'],
        },
      }
    }
    if (path !== '/token') return { status: 404, body: {} }
    const grant = form(body).grant_type === 'refresh_token' ? 'renewed' : 'first'
    return {
      body: {
        ...{ access_token: `${grant}-${++count}`, token_type: 'Bearer', expires_in: 3600 },
        ...{ refresh_token: 'r', id_token: id },
      },
    }
  })
  id = await idToken(issuer ?? as.origin)
  const provider = { clientId: 'ours', clientSecret: { value: 's' }, scopes: ['openid'], ...more(as.origin) }
  const plane = await startPlane(`${as.origin}/mcp`, { provider, allowedNetworks: loopback })
  t.teardown(() => plane.close())
  const browser = await signIn(plane, 'ann')
  const connect = async () => {
    const page = await browser.get(`${plane.origin}/connections/notes/connect`)
    const left = new URL((await browser.submit(page, '/connect')).location!)
    const back = new URL(left.searchParams.get('redirect_uri')!)
    back.search = new URLSearchParams({ code: 'c', state: left.searchParams.get('state')! }).toString()
    return browser.follow(await browser.get(back.href))
  }
  return { plane, browser, connect }
}

const addresses = (origin: string) => ({
  oauthAuthorizationUrl: `${origin}/authorize`,
  oauthTokenUrl: `${origin}/token`,
})

test('addresses of the configuration with an ID token of an issuer elsewhere: connected, and renewed', async (t) => {
  proves(t, 'CRED-103')
  const { plane, connect } = await scene(t, addresses, 'https://accounts.example')
  t.equal((await connect()).status, 200)
  t.equal(tokenOf(await plane.ask('ann')), 'first-1')
  plane.clock.offset += 3_590_000
  t.equal(tokenOf(await plane.ask('ann')), 'renewed-2')
})

test('a known issuer: its ID token names the account, another’s is refused', async (t) => {
  proves(t, 'CRED-103')
  const good = await scene(t, () => ({}))
  await good.connect()
  const list = await good.browser.get(`${good.plane.origin}/connections`)
  t.match(list.text, /ann@accounts\.example/)
  const bad = await scene(t, () => ({}), 'https://accounts.example')
  await bad.connect()
  t.match(await bad.plane.ask('ann'), { kind: 'authorization_required', reason: 'not_connected' })
})
