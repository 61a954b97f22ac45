import { StringDecoder } from 'node:string_decoder'

/**
 * Cuts bytes into lines. A line of more than `maxBytes` is dropped whole and told to `onLong`: what would be its rest is
 * never taken for a line of its own.
 */
export class Lines {
  readonly #maxBytes: number
  readonly #onLine: (line: string) => void
  readonly #onLong: () => void
  readonly #decoder = new StringDecoder('utf8')
  #pieces: string[] = []
  #size = 0
  #skipping = false

  constructor(maxBytes: number, onLine: (line: string) => void, onLong: () => void) {
    this.#maxBytes = maxBytes
    this.#onLine = onLine
    this.#onLong = onLong
  }

  push(chunk: Buffer): void {
    let start = 0
    for (;;) {
      const end = chunk.indexOf(0x0a, start)
      if (end === -1) break
      this.#take(chunk.subarray(start, end))
      this.#line()
      start = end + 1
    }
    this.#take(chunk.subarray(start))
  }

  #take(part: Buffer): void {
    if (this.#skipping || part.length === 0) return
    this.#size += part.length
    if (this.#size > this.#maxBytes) {
      this.#skipping = true
      this.#pieces = []
      this.#decoder.end()
      this.#onLong()
      return
    }
    this.#pieces.push(this.#decoder.write(part))
  }

  #line(): void {
    const line = this.#pieces.join('') + this.#decoder.end()
    const skipped = this.#skipping
    this.#pieces = []
    this.#size = 0
    this.#skipping = false
    if (!skipped && line !== '') this.#onLine(line.endsWith('\r') ? line.slice(0, -1) : line)
  }
}
