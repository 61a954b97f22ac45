/** One event of a text/event-stream: `event` is "message" where the stream names none. */
export interface SseEvent {
  readonly event: string
  readonly data: string
  readonly id: string | undefined
}

/**
 * Incremental parser of text/event-stream (WHATWG HTML §9.2.6). Feed it decoded text in any pieces; it gives the
 * events that became complete. Comments and unknown fields are dropped. Throws a RangeError once an unfinished event
 * holds more than `maxEventChars` characters.
 */
export class SseParser {
  readonly #maxChars: number
  /** The unfinished line, in the pieces it came in: joined once it ends, so that a long one is not copied each time. */
  #pieces: string[] = []
  #held = 0
  #event = ''
  #data: string[] = []
  #id: string | undefined
  #size = 0
  #first = true
  #retryMs: number | undefined

  /** Where to go on after the stream broke: the newest `id`, also of an event without data. "" takes it back. */
  get lastEventId(): string | undefined {
    return this.#id
  }

  /** The newest `retry`: how long to wait before the next connection, milliseconds. */
  get retryMs(): number | undefined {
    return this.#retryMs
  }

  constructor(maxEventChars: number) {
    this.#maxChars = maxEventChars
  }

  push(text: string): SseEvent[] {
    if (text === '') return []
    if (!this.#pieces.at(-1)?.endsWith('\r') && !/[\r\n]/.test(text)) {
      this.#hold(text)
      return []
    }
    let input = this.#pieces.join('') + text
    this.#pieces = []
    this.#held = 0
    if (this.#first) {
      this.#first = false
      if (input.startsWith('\uFEFF')) input = input.slice(1)
    }
    const events: SseEvent[] = []
    const lineEnd = /[\r\n]/g
    let start = 0
    for (;;) {
      lineEnd.lastIndex = start
      const end = lineEnd.exec(input)?.index
      if (end === undefined) break
      // A CR at the end of what we have may be half of a CRLF: wait for the next piece.
      if (input[end] === '\r' && end === input.length - 1) break
      const event = this.#line(input.slice(start, end))
      if (event) events.push(event)
      start = end + (input[end] === '\r' && input[end + 1] === '\n' ? 2 : 1)
    }
    this.#hold(input.slice(start))
    return events
  }

  #hold(text: string): void {
    if (text !== '') this.#pieces.push(text)
    this.#held += text.length
    if (this.#size + this.#held > this.#maxChars) {
      throw new RangeError(`an event is larger than ${this.#maxChars} characters`)
    }
  }

  #line(line: string): SseEvent | undefined {
    if (line === '') return this.#dispatch()
    this.#size += line.length
    if (this.#size > this.#maxChars) {
      throw new RangeError(`an event is larger than ${this.#maxChars} characters`)
    }
    const colon = line.indexOf(':')
    if (colon === 0) {
      this.#size -= line.length
      return undefined
    }
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'event') this.#event = value
    else if (field === 'data') this.#data.push(value)
    else if (field === 'id' && !value.includes('\0')) this.#id = value
    else if (field === 'retry' && /^\d{1,9}$/.test(value)) this.#retryMs = Number(value)
    return undefined
  }

  #dispatch(): SseEvent | undefined {
    const event =
      this.#data.length === 0
        ? undefined
        : { event: this.#event || 'message', data: this.#data.join('\n'), id: this.#id }
    this.#event = ''
    this.#data = []
    this.#size = 0
    return event
  }
}

/** The bytes of one event. `data` is one line (our events are JSON). */
export const sseEvent = (event: string, data: unknown): string =>
  `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
