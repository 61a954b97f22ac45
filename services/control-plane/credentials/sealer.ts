import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import { Fault } from '../../../shared/faults.ts'
import type { Sealer } from '../store/sealer.ts'

export type { Sealer } from '../store/sealer.ts'

/** AES-256-GCM. Layout: format (1 byte) | key id (1) | nonce (12) | tag (16) | ciphertext. */
const format = 1
const nonceBytes = 12
const tagBytes = 16
const headBytes = 2 + nonceBytes + tagBytes

/**
 * Under one master key a random 96-bit nonce is safe for 2^32 values (NIST SP 800-38D §8.3), which is far more than
 * a tenant's tokens, refreshed each hour, come to in the life of a key. The key id byte is taken from the key's digest: it
 * tells a wrong key from a damaged value, and lets several keys be told apart while one replaces another.
 */
export function createSealer(masterKey: Buffer, formerKeys: readonly Buffer[] = []): Sealer {
  for (const key of [masterKey, ...formerKeys]) {
    if (key.length !== 32) throw new Fault('config.invalid', { detail: 'a master key must be 32 bytes' })
  }
  const current = keyId(masterKey)
  const keys = [masterKey, ...formerKeys]

  return {
    seal(plain, context) {
      const nonce = randomBytes(nonceBytes)
      const head = Buffer.from([format, current])
      const cipher = createCipheriv('aes-256-gcm', masterKey, nonce)
      cipher.setAAD(aad(head, context))
      const body = Buffer.concat([cipher.update(plain), cipher.final()])
      return Buffer.concat([head, nonce, cipher.getAuthTag(), body])
    },
    open(sealed, context) {
      const known = sealed.length >= headBytes && sealed[0] === format
      // Of two keys in 256 the id is the same: each that fits is tried.
      const fitting = known ? keys.filter((key) => keyId(key) === sealed[1]) : []
      if (fitting.length === 0) throw refuse('a sealed value is of no known format or master key')
      for (const key of fitting) {
        const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(2, 2 + nonceBytes), {
          authTagLength: tagBytes,
        })
        decipher.setAAD(aad(sealed.subarray(0, 2), context))
        decipher.setAuthTag(sealed.subarray(2 + nonceBytes, headBytes))
        try {
          return Buffer.concat([decipher.update(sealed.subarray(headBytes)), decipher.final()])
        } catch {}
      }
      throw refuse('a sealed value does not open: changed, moved to another row, or under another key')
    },
  }
}

function keyId(key: Buffer): number {
  return createHash('sha256').update('aembit-master-key-id').update(key).digest()[0]!
}

function aad(head: Buffer, context: string): Buffer {
  return Buffer.concat([head, Buffer.from(context, 'utf8')])
}

function refuse(detail: string): Fault {
  return new Fault('internal', { detail })
}
