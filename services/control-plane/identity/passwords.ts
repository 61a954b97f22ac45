import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto'
import PQueue from 'p-queue'
import { Fault } from '../../../shared/faults.ts'

/** scrypt cost: N = 2^ln, memory 128·N·r bytes. */
export interface ScryptCost {
  readonly ln: number
  readonly r: number
  readonly p: number
}

/** 32 MiB and about 0.2 s of one core: the OWASP equivalent of N=2^17, p=1 at a quarter of the memory. */
export const defaultCost: ScryptCost = { ln: 15, r: 8, p: 3 }
const keyBytes = 32
const format = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{16,})\$([A-Za-z0-9+/]{43})$/

export interface Passwords {
  /** `$scrypt$ln=…,r=…,p=…$salt$hash` (the PHC string form), so that costs can rise without a flag day. */
  hash(password: string): Promise<string>
  /** Throws `http.busy` where too many wait already: a guess costs the guesser's turn, not our memory. */
  verify(password: string, hash: string): Promise<boolean>
  /** The work of one verify, for an account that does not exist. Always false. */
  verifyNothing(password: string): Promise<false>
}

/** Whether a configured `passwordHash` is one that `verify` can work with, within bounds of cost. */
export function isPasswordHash(value: string): boolean {
  const cost = parse(value)?.cost
  return (
    cost !== undefined &&
    cost.ln >= 10 &&
    cost.ln <= 20 &&
    cost.r >= 1 &&
    cost.r <= 16 &&
    cost.p >= 1 &&
    cost.p <= 16
  )
}

export function createPasswords(cost: ScryptCost = defaultCost, maxWaiting = 64): Passwords {
  const queue = new PQueue({ concurrency: 2 })
  const derive = (password: string, salt: Buffer, { ln, r, p }: ScryptCost): Promise<Buffer> => {
    if (queue.size >= maxWaiting)
      throw new Fault('http.busy', { detail: 'too many passwords are being checked' })
    const options: ScryptOptions = { N: 2 ** ln, r, p, maxmem: 129 * 2 ** ln * r + 1024 * 1024 }
    return queue.add(
      () =>
        new Promise<Buffer>((resolve, reject) => {
          // NFKC: the same password from a keyboard that composes characters otherwise.
          scrypt(password.normalize('NFKC'), salt, keyBytes, options, (error, key) =>
            error ? reject(error) : resolve(key),
          )
        }),
    )
  }
  const absent: ParsedHash = { salt: randomBytes(16), key: randomBytes(keyBytes), cost }
  const check = async (password: string, { salt, key, cost: its }: ParsedHash): Promise<boolean> =>
    timingSafeEqual(await derive(password, salt, its), key)

  return {
    hash: async (password) => {
      const salt = randomBytes(16)
      const key = await derive(password, salt, cost)
      return `$scrypt$ln=${cost.ln},r=${cost.r},p=${cost.p}$${unpadded(salt)}$${unpadded(key)}`
    },
    verify: async (password, hash) => {
      const parsed = parse(hash)
      if (parsed) return check(password, parsed)
      await check(password, absent)
      return false
    },
    verifyNothing: async (password) => {
      await check(password, absent)
      return false
    },
  }
}

function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '')
}

interface ParsedHash {
  readonly cost: ScryptCost
  readonly salt: Buffer
  readonly key: Buffer
}

function parse(hash: string): ParsedHash | undefined {
  const match = format.exec(hash)
  if (!match) return undefined
  return {
    cost: { ln: Number(match[1]), r: Number(match[2]), p: Number(match[3]) },
    salt: Buffer.from(match[4]!, 'base64'),
    key: Buffer.from(match[5]!, 'base64'),
  }
}
