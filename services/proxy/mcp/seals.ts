import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { Seals } from './protocol/types.ts'

const nonceBytes = 12
const tagBytes = 16
const maxBoxChars = 64 * 1024

/** AES-256-GCM with a key of this process: `nonce | ciphertext | tag`, base64url, the purpose as associated data. */
export function createProcessSeals(): Seals {
  const key = randomBytes(32)
  return {
    seal(purpose, plain) {
      const nonce = randomBytes(nonceBytes)
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(purpose))
      const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
      return Buffer.concat([nonce, body, cipher.getAuthTag()]).toString('base64url')
    },
    open(purpose, sealed) {
      if (sealed.length > maxBoxChars) return undefined
      const box = Buffer.from(sealed, 'base64url')
      if (box.length < nonceBytes + tagBytes) return undefined
      try {
        const decipher = createDecipheriv('aes-256-gcm', key, box.subarray(0, nonceBytes), {
          authTagLength: tagBytes,
        })
        decipher.setAAD(Buffer.from(purpose)).setAuthTag(box.subarray(box.length - tagBytes))
        const plain = decipher.update(box.subarray(nonceBytes, box.length - tagBytes))
        return Buffer.concat([plain, decipher.final()]).toString('utf8')
      } catch {
        return undefined
      }
    },
  }
}
