import { randomUUID } from 'node:crypto'
import type { Exchange } from './exchange.ts'
import type { SseWriter } from './mcp/protocol/types.ts'
import { HttpReply } from './reply.ts'

/** Members of one batch that run at the same time: a batch must not take the place of as many requests. */
const atOnce = 8

/**
 * Runs each member of a batch as a request of its own, and answers with all their answers: one JSON array, or one stream
 * where a member wants to say something before its answer; 202 where none has an answer (MCP 2025-03-26, transports).
 */
export async function runBatch(x: Exchange, run: (member: Exchange) => Promise<void>): Promise<void> {
  const answers = new Answers(x.reply)
  const waiting = [...(x.batch ?? [])]
  const work = async (): Promise<void> => {
    for (let message = waiting.shift(); message; message = waiting.shift())
      await run(x.member(message, randomUUID(), new MemberReply(x, answers)))
  }
  await Promise.all(Array.from({ length: atOnce }, work))
  answers.end()
}

class Answers {
  readonly #reply: HttpReply
  readonly #kept: string[] = []
  #stream: SseWriter | undefined

  constructor(reply: HttpReply) {
    this.#reply = reply
  }

  add(text: string): void {
    if (this.#stream) void this.#stream.send(text)
    else this.#kept.push(text)
  }

  /** From now on everything goes out as it comes. */
  stream(): SseWriter {
    if (!this.#stream) {
      this.#stream = this.#reply.stream()
      for (const text of this.#kept.splice(0)) void this.#stream.send(text)
    }
    return this.#stream
  }

  end(): void {
    if (this.#stream) this.#stream.end()
    else if (this.#kept.length > 0) this.#reply.json(200, `[${this.#kept.join(',')}]`)
    else this.#reply.accepted()
  }
}

/** The answer of one member: its status and headers are lost in that of the whole. */
class MemberReply extends HttpReply {
  readonly #answers: Answers
  #begun = false

  constructor(x: Exchange, answers: Answers) {
    super(x.res, x.keepAlive)
    this.#answers = answers
  }

  override get begun(): boolean {
    return this.#begun
  }

  override json(_status: number, body: string): void {
    if (this.#begun) return
    this.#begun = true
    this.#answers.add(body)
  }

  override send(status: number, _contentType: string, body: string | Buffer): void {
    this.json(status, String(body))
  }

  override empty(): void {
    this.#begun = true
  }

  override stream(): SseWriter {
    this.#begun = true
    const stream = this.#answers.stream()
    // The stream is every member's: none of them ends it.
    this.streaming ??= {
      send: (text) => stream.send(text),
      comment: (text) => stream.comment(text),
      end: () => {},
    }
    return this.streaming
  }
}
