import '../../../../shared/reflect.ts'
import * as x509 from '@peculiar/x509'
import type { Clock } from '../../../../shared/clock.ts'
import type { DatabaseSync } from '../../store/database.ts'
import type { Sealer } from '../../store/sealer.ts'
import { findServerSecret, keepServerSecret } from '../../store/server-secrets.ts'

/** The gateway's own key towards SAML identity providers: signs requests, opens encrypted assertions. PEM. */
export interface ServiceKey {
  readonly privateKey: string
  readonly certificate: string
}

const name = 'saml-key'
const validMs = 10 * 365 * 86_400_000

/** Made at first use, sealed at rest, the same from then on: providers keep its certificate. */
export async function serviceKey(db: DatabaseSync, sealer: Sealer, clock: Clock): Promise<ServiceKey> {
  const kept =
    findServerSecret(db, sealer, name) ??
    keepServerSecret(db, sealer, clock, name, Buffer.from(JSON.stringify(await make(clock.now()))))
  return JSON.parse(kept.toString()) as ServiceKey
}

async function make(now: number): Promise<ServiceKey> {
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    modulusLength: 3072,
    publicExponent: new Uint8Array([1, 0, 1]),
  }
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=MCP Identity Gateway',
    keys,
    signingAlgorithm: algorithm,
    notBefore: new Date(now - 3_600_000),
    notAfter: new Date(now + validMs),
  })
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey))
  const lines = pkcs8.toString('base64').replace(/.{64}/g, '$&\n').trimEnd()
  return {
    privateKey: `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`,
    certificate: certificate.toString('pem'),
  }
}
