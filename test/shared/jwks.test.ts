import { exportJWK, exportSPKI, generateKeyPair, jwtVerify, SignJWT } from 'jose'
import { test } from 'tap'
import { directIssuer } from '../../services/control-plane/config/direct-issuer.ts'
import { localKeys } from '../../shared/jwks.ts'
import { proves } from '../requirements.ts'

test('a public key without a name verifies tokens that name one, and takes nobody else’s place', async (t) => {
  proves(t, 'TRUST-03')
  const [named, nameless, stranger] = await Promise.all(
    ['RS256', 'RS256', 'RS256'].map((alg) => generateKeyPair(alg, { extractable: true })),
  )
  const pem = await exportSPKI(nameless!.publicKey)
  const { publicKey } = directIssuer.parse({ issuer: 'https://idp.example', publicKey: pem })
  const jwk = { ...(await exportJWK(named!.publicKey)), kid: 'k1' }
  const verifies = async (
    keys: object[],
    kid: string | undefined,
    key: Parameters<SignJWT['sign']>[0],
  ): Promise<boolean> => {
    const token = await new SignJWT({})
      .setProtectedHeader({ alg: 'RS256', ...(kid === undefined ? {} : { kid }) })
      .sign(key)
    return jwtVerify(token, localKeys({ keys: keys as Record<string, unknown>[] })).then(
      () => true,
      () => false,
    )
  }
  const both = [jwk, publicKey!]
  for (const [keys, kid, key, good] of [
    [[publicKey!], 'anything', nameless!.privateKey, true],
    [[publicKey!], undefined, nameless!.privateKey, true],
    [[publicKey!], 'anything', stranger!.privateKey, false],
    [both, 'k1', named!.privateKey, true],
    [both, 'k2', nameless!.privateKey, true],
    [both, 'k1', nameless!.privateKey, false],
    [both, 'k2', named!.privateKey, false],
    [[jwk], 'k2', named!.privateKey, false],
  ] as const) {
    t.equal(await verifies([...keys], kid, key), good, `kid ${kid} among ${keys.length}`)
  }
})
