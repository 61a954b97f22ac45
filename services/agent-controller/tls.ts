import type { RequestListener } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { Clock } from '../../shared/clock.ts'
import { readTlsFiles, type TlsFiles, type TlsPaths } from '../../shared/config/tls-files.ts'
import type { Logger } from '../../shared/log.ts'

const lookEveryMs = 60_000

/** One certificate for the API and the metrics; a renewed pair of files is served within a minute, without a restart. */
export class ServerCertificate {
  readonly #paths: TlsPaths
  readonly #log: Logger
  readonly #servers: Server[] = []
  #files: TlsFiles

  /** Throws TlsFileError. */
  constructor(paths: TlsPaths, log: Logger) {
    this.#paths = paths
    this.#log = log
    this.#files = readTlsFiles(paths)
  }

  /** Whether the certificate is for this name. */
  isFor(name: string): boolean {
    return this.#files.leaf.checkHost(name) !== undefined || this.#files.leaf.checkIP(name) !== undefined
  }

  createServer(listener: RequestListener): Server {
    const { cert, key } = this.#files
    const server = createServer({ cert, key, minVersion: 'TLSv1.2' }, listener)
    this.#servers.push(server)
    return server
  }

  /** Until `signal` aborts; never throws. A pair that does not fit leaves the former in place. */
  async watch(clock: Clock, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await clock.sleep(lookEveryMs, signal).catch(() => {})
      if (signal.aborted) return
      try {
        const files = readTlsFiles(this.#paths, clock.now())
        if (files.cert === this.#files.cert && files.key === this.#files.key) continue
        this.#files = files
        for (const server of this.#servers) {
          server.setSecureContext({ cert: files.cert, key: files.key, minVersion: 'TLSv1.2' })
        }
        this.#log.info({ until: files.leaf.validTo }, 'the renewed certificate is served')
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        this.#log.error({ detail: why }, 'the certificate can not be renewed; the former is served')
      }
    }
  }
}
