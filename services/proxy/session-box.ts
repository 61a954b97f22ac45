import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  hash,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import type { SealingKeys } from '../../shared/wire/credential.ts'

/**
 * The AEAD box around a session: `hint(4) | nonce(12) | ciphertext | tag(16)`, AES-256-GCM, base64url, with one
 * tenant key and no derivation per request. A random 96-bit nonce under one key is good for 2^32 boxes (NIST SP
 * 800-38D §8.3), which is 136 a second for a year; keys rotate before.
 */
const hintBytes = 4
const nonceBytes = 12
const tagBytes = 16
const overhead = hintBytes + nonceBytes + tagBytes
const sessionPurpose = 'mcp-session/1'
/** Longer than any box that `seal` makes of a bounded session. */
const maxSessionChars = 6 * 1024

interface Key {
  readonly hint: Buffer
  readonly secret: KeyObject
}

export class SessionBox {
  #keys: readonly Key[] = []

  get ready(): boolean {
    return this.#keys.length > 0
  }

  /** Newest first: seals with the first, opens with any. Ignores keys that are not 32 bytes. */
  rekey({ keys }: SealingKeys): void {
    this.#keys = keys.flatMap(({ kid, key }) => {
      const bytes = Buffer.from(key, 'base64url')
      if (bytes.length !== 32) return []
      const hint = Buffer.from(hash('sha256', kid, 'buffer').subarray(0, hintBytes))
      const secret = createSecretKey(bytes)
      bytes.fill(0)
      return [{ hint, secret }]
    })
  }

  /** Undefined while there is no key. A box of one `purpose` opens for no other. */
  seal(plain: Buffer, purpose = sessionPurpose): string | undefined {
    const key = this.#keys[0]
    if (!key) return undefined
    const nonce = randomBytes(nonceBytes)
    const cipher = createCipheriv('aes-256-gcm', key.secret, nonce)
    cipher.setAAD(Buffer.from(purpose))
    const body = Buffer.concat([key.hint, nonce, cipher.update(plain), cipher.final()])
    return Buffer.concat([body, cipher.getAuthTag()]).toString('base64url')
  }

  /** Undefined for what no key of ours has sealed for this purpose. */
  open(id: string, purpose = sessionPurpose, maxChars = maxSessionChars): Buffer | undefined {
    if (id.length > maxChars || !/^[A-Za-z0-9_-]+$/.test(id)) return undefined
    const box = Buffer.from(id, 'base64url')
    // The last character may carry spare bits: one session must not have two ids.
    if (box.length <= overhead || box.toString('base64url') !== id) return undefined
    const hint = box.subarray(0, hintBytes)
    const nonce = box.subarray(hintBytes, hintBytes + nonceBytes)
    for (const key of this.#keys) {
      if (!key.hint.equals(hint)) continue
      try {
        const decipher = createDecipheriv('aes-256-gcm', key.secret, nonce, { authTagLength: tagBytes })
        decipher.setAAD(Buffer.from(purpose))
        decipher.setAuthTag(box.subarray(box.length - tagBytes))
        const plain = decipher.update(box.subarray(hintBytes + nonceBytes, box.length - tagBytes))
        return Buffer.concat([plain, decipher.final()])
      } catch {
        // Not this key's.
      }
    }
    return undefined
  }
}
