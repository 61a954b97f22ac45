import { createHash } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ensurePrivateDir, writeFileAtomic } from '../../shared/files.ts'
import type { SnapshotRef } from '../../shared/ipc/contract.ts'
import type { Logger } from '../../shared/log.ts'

const pinsSchema = z.object({
  gatewayId: z.uuid(),
  tenantId: z.string(),
  /** Public keys, as the enrolment gave them: a snapshot must verify under one. */
  jwks: z.object({ keys: z.array(z.record(z.string(), z.unknown())).min(1) }),
})
export type Pins = z.infer<typeof pinsSchema>

const metaSchema = z.object({ etag: z.string().nullable(), confirmedAt: z.number() })
export type SnapshotMeta = z.infer<typeof metaSchema>

const publishedName = /^snapshot-\d+-[0-9a-f]{12}\.json$/

/**
 * What survives a restart of sync: the pins, the last verified snapshot with the time of its last confirmation,
 * and the file that proxies read. Nothing here is secret; a damaged file counts as absent.
 */
export class LastGood {
  readonly #dir: string
  readonly #log: Logger

  private constructor(dir: string, log: Logger) {
    this.#dir = dir
    this.#log = log
  }

  static async open(dir: string, log: Logger): Promise<LastGood> {
    await ensurePrivateDir(dir)
    return new LastGood(dir, log)
  }

  async pins(): Promise<Pins | null> {
    return this.#json('pins.json', pinsSchema)
  }

  async writePins(pins: Pins): Promise<void> {
    await writeFileAtomic(join(this.#dir, 'pins.json'), `${JSON.stringify(pins, null, 2)}\n`)
  }

  /** The signed bytes, not yet verified. Where the meta is lost the snapshot counts as never confirmed. */
  async snapshot(): Promise<{ jws: string; meta: SnapshotMeta } | null> {
    const jws = await this.#text('snapshot.jws')
    if (jws === null) return null
    return {
      jws,
      meta: (await this.#json('snapshot-meta.json', metaSchema)) ?? { etag: null, confirmedAt: 0 },
    }
  }

  async writeSnapshot(jws: string, meta: SnapshotMeta): Promise<void> {
    await writeFileAtomic(join(this.#dir, 'snapshot.jws'), jws)
    await this.writeMeta(meta)
  }

  async writeMeta(meta: SnapshotMeta): Promise<void> {
    await writeFileAtomic(join(this.#dir, 'snapshot-meta.json'), `${JSON.stringify(meta)}\n`)
  }

  /**
   * Lays down the verified payload for proxies. Its name holds version and digest, so that a pointer never leads to
   * other bytes than it was made for; the file before it stays for proxies that are about to read it.
   */
  async publish(payload: Uint8Array, version: number): Promise<SnapshotRef> {
    const sha256 = createHash('sha256').update(payload).digest('hex')
    const name = `snapshot-${version}-${sha256.slice(0, 12)}.json`
    const path = join(this.#dir, name)
    await writeFileAtomic(path, payload)
    const former = (await readdir(this.#dir)).filter((other) => publishedName.test(other) && other !== name)
    former.sort((a, b) => versionOf(a) - versionOf(b))
    await Promise.all(former.slice(0, -1).map((other) => rm(join(this.#dir, other), { force: true })))
    return { version, path, sha256 }
  }

  async #json<T>(name: string, schema: z.ZodType<T>): Promise<T | null> {
    const text = await this.#text(name)
    if (text === null) return null
    try {
      return schema.parse(JSON.parse(text))
    } catch {
      this.#log.warn({ file: name }, 'state file is damaged; going on without it')
      return null
    }
  }

  async #text(name: string): Promise<string | null> {
    try {
      return await readFile(join(this.#dir, name), 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
  }
}

const versionOf = (name: string): number => Number(name.split('-')[1])
