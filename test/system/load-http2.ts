import { readFileSync } from 'node:fs'
import { type ClientHttp2Session, connect, constants } from 'node:http2'

/** A client as RFC 9113 §6.8 and §8.7 want it: what a server says it did not process is sent again, on a new connection. */
export class Http2Client {
  readonly #url: URL
  readonly #ca: Buffer
  #session: ClientHttp2Session | undefined
  /** The last stream that the server of this session processes, once it said so. */
  #last = Number.POSITIVE_INFINITY

  constructor(url: string, caPath: string) {
    this.#url = new URL(url)
    this.#ca = readFileSync(caPath)
  }

  async post(
    headers: Readonly<Record<string, string>>,
    body: string,
  ): Promise<{ status: number; text: string }> {
    for (;;) {
      const answer = await this.#once(headers, body)
      if (answer) return answer
    }
  }

  /** undefined: the server did not process it. */
  #once(
    headers: Readonly<Record<string, string>>,
    body: string,
  ): Promise<{ status: number; text: string } | undefined> {
    const session = this.#open()
    return new Promise((resolve, reject) => {
      const stream = session.request({ ...headers, ':method': 'POST', ':path': this.#url.pathname })
      let status = 0
      let text = ''
      stream.setEncoding('utf8')
      stream.once('response', (answered) => {
        status = Number(answered[':status'])
      })
      stream.on('data', (piece: string) => {
        text += piece
      })
      stream.once('end', () => {
        if (status !== 0) resolve({ status, text })
      })
      stream.once('error', () => {})
      stream.once('close', () => {
        if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM || (stream.id ?? 0) > this.#last)
          resolve(undefined)
        else
          reject(
            new Error(
              `HTTP/2 stream closed (${stream.rstCode}) ${session.destroyed ? 'with its connection' : ''}`,
            ),
          )
      })
      stream.end(body)
    })
  }

  #open(): ClientHttp2Session {
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session
    const session = connect(this.#url, { ca: this.#ca })
    session.on('error', () => {})
    session.once('goaway', (_code, last) => {
      this.#last = last
      session.close()
    })
    this.#session = session
    this.#last = Number.POSITIVE_INFINITY
    return session
  }
}
