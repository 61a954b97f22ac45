import { createHash, generateKeyPairSync } from 'node:crypto'
import { chmod, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { Fault } from '../../shared/faults.ts'
import { ensurePrivateDir, writeFileAtomic } from '../../shared/files.ts'

const jwk = z.object({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: z.string() })
const stateSchema = z.object({
  format: z.literal(1),
  /** RFC 8037; the one secret of this process. */
  privateJwk: jwk.extend({ d: z.string() }),
  registration: z
    .object({
      controllerId: z.uuid(),
      tenantId: z.string(),
      /** SHA-256 of the code this registration was made with, so that a restart does not try it again. */
      deviceCodeSha256: z.string(),
    })
    .nullable(),
})
type State = z.infer<typeof stateSchema>
export type StoredRegistration = NonNullable<State['registration']>

export const digestOf = (deviceCode: string): string => createHash('sha256').update(deviceCode).digest('hex')

/** The key pair, made once, and the registration: `agent-controller.json`, 0600, in the state folder. */
export class ControllerState {
  readonly #path: string
  #state: State

  private constructor(path: string, state: State) {
    this.#path = path
    this.#state = state
  }

  /** Throws `config.invalid` where the file is damaged: a silent new key would orphan the registration. */
  static async open(dir: string): Promise<ControllerState> {
    await ensurePrivateDir(dir)
    const path = join(dir, 'agent-controller.json')
    let text: string
    try {
      text = await readFile(path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        throw new Fault('config.invalid', { detail: `${path} can not be read`, cause: error })
      }
      const { privateKey } = generateKeyPairSync('ed25519')
      const privateJwk = privateKey.export({ format: 'jwk' }) as State['privateJwk']
      // On disk before the device code is spent: an answer must never belong to a key that a crash lost.
      const fresh = new ControllerState(path, { format: 1, privateJwk, registration: null })
      await fresh.#write()
      return fresh
    }
    if (((await stat(path)).mode & 0o077) !== 0) await chmod(path, 0o600)
    return new ControllerState(path, parse(path, text))
  }

  get registration(): StoredRegistration | null {
    return this.#state.registration
  }

  get privateJwk(): State['privateJwk'] {
    return this.#state.privateJwk
  }

  get publicJwk(): { kty: 'OKP'; crv: 'Ed25519'; x: string } {
    const { kty, crv, x } = this.#state.privateJwk
    return { kty, crv, x }
  }

  async register(registration: StoredRegistration): Promise<void> {
    this.#state = { ...this.#state, registration }
    await this.#write()
  }

  async #write(): Promise<void> {
    await writeFileAtomic(this.#path, `${JSON.stringify(this.#state, null, 2)}\n`)
  }
}

function parse(path: string, text: string): State {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    json = undefined
  }
  const parsed = stateSchema.safeParse(json)
  if (parsed.success) return parsed.data
  throw new Fault('config.invalid', {
    detail: `${path} is damaged; restore it, or remove it and register with a new device code`,
  })
}
