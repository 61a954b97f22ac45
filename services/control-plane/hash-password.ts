import { text } from 'node:stream/consumers'
import { createPasswords } from './identity/passwords.ts'

/** `passwordHash` for the YAML: `node services/control-plane/hash-password.ts < file`. Never an argument: ps shows those. */
const password = (await text(process.stdin)).replace(/\r?\n$/, '')
if (password === '') {
  console.error('Send the password on standard input.')
  process.exit(2)
}
console.log(await createPasswords().hash(password))
