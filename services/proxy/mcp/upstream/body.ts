import type { Dispatcher } from 'undici'
import { Fault } from '../../../../shared/faults.ts'

/** Bytes that wait for a reader before the server is asked to pause. */
const highWater = 256 * 1024

/**
 * The body of one answer, filled by undici's handler and read once: as text, as chunks, or not at all. A stream
 * object per answer would cost more than all of our own work on it.
 */
export class UpstreamBody implements AsyncIterable<Buffer> {
  readonly #controller: Dispatcher.DispatchController
  #chunks: Buffer[] = []
  #size = 0
  #ended = false
  #failure: Error | undefined
  #wake: (() => void) | undefined
  /** How much may come in: all of it is wanted (text, a limit), none of it, or as it is read. */
  #limit: number | undefined

  constructor(controller: Dispatcher.DispatchController) {
    this.#controller = controller
  }

  push(chunk: Buffer): void {
    this.#size += chunk.length
    if (this.#limit !== undefined) {
      if (this.#size > this.#limit) this.#controller.abort(new Fault('upstream.too_large'))
      else this.#chunks.push(chunk)
      return
    }
    this.#chunks.push(chunk)
    if (this.#size > highWater) this.#controller.pause()
    this.#signal()
  }

  finish(failure?: Error): void {
    this.#ended = true
    this.#failure = failure
    this.#signal()
  }

  #signal(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  /** The whole of it. Throws `upstream.too_large` past `limit` bytes, and what broke the connection. */
  async text(limit: number): Promise<string> {
    this.#limit = limit
    if (this.#size > limit) {
      this.destroy()
      throw new Fault('upstream.too_large')
    }
    this.#controller.resume()
    while (!this.#ended) await this.#change()
    if (this.#failure) throw this.#failure
    const [only] = this.#chunks
    return (this.#chunks.length === 1 && only ? only : Buffer.concat(this.#chunks)).toString('utf8')
  }

  /** Reads and forgets, so that the connection can be used again; gives it up past `limit` bytes. */
  dump(limit = 65_536): void {
    this.text(limit).catch(() => {})
  }

  destroy(): void {
    if (!this.#ended) this.#controller.abort(new Fault('upstream.unreachable', { detail: 'given up' }))
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    for (;;) {
      while (this.#chunks.length === 0 && !this.#ended) await this.#change()
      const chunks = this.#chunks
      this.#chunks = []
      this.#size = 0
      if (chunks.length === 0) {
        if (this.#failure) throw this.#failure
        return
      }
      this.#controller.resume()
      yield* chunks
    }
  }
}
