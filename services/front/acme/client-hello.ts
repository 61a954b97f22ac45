/** What a TLS ClientHello asks for, as far as the choice of a certificate for `acme-tls/1` needs it. */
export interface ClientHello {
  /** ALPN protocols, in the client's order (RFC 7301). */
  readonly protocols: readonly string[]
  /** SNI host name, lower case (RFC 6066 §3). */
  readonly serverName: string | null
}

const handshakeRecord = 22
const clientHelloMessage = 1
const serverNameExtension = 0
const alpnExtension = 16

/** A cursor whose reads past the end throw; the caller takes that for "no ClientHello". */
class Reader {
  #at = 0
  readonly #bytes: Buffer

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  number(size: 1 | 2 | 3): number {
    const value = this.#bytes.readUIntBE(this.#at, size)
    this.#at += size
    return value
  }

  take(length: number): Reader {
    return new Reader(this.bytes(length))
  }

  bytes(length: number): Buffer {
    if (length > this.left) throw new RangeError('truncated')
    const part = this.#bytes.subarray(this.#at, this.#at + length)
    this.#at += length
    return part
  }
}

/**
 * Reads the first bytes of a TLS connection (RFC 8446 §4.1.2). `undefined`: more bytes are needed. `null`: this is no
 * ClientHello in one record, which every client of `acme-tls/1` sends (RFC 8737 §3).
 */
export function parseClientHello(bytes: Buffer): ClientHello | null | undefined {
  if (bytes.length < 5) return bytes.length === 0 || bytes[0] === handshakeRecord ? undefined : null
  if (bytes[0] !== handshakeRecord) return null
  const length = bytes.readUInt16BE(3)
  if (bytes.length < 5 + length) return undefined
  try {
    const record = new Reader(bytes.subarray(5, 5 + length))
    if (record.number(1) !== clientHelloMessage) return null
    return readHello(record.take(record.number(3)))
  } catch {
    return null
  }
}

function readHello(hello: Reader): ClientHello {
  hello.bytes(2 + 32)
  hello.bytes(hello.number(1))
  hello.bytes(hello.number(2))
  hello.bytes(hello.number(1))
  let protocols: string[] = []
  let serverName: string | null = null
  const extensions = hello.take(hello.left > 0 ? hello.number(2) : 0)
  while (extensions.left > 0) {
    const type = extensions.number(2)
    const body = extensions.take(extensions.number(2))
    if (type === alpnExtension) protocols = readProtocols(body.take(body.number(2)))
    if (type === serverNameExtension) serverName = readServerName(body.take(body.number(2)))
  }
  return { protocols, serverName }
}

function readProtocols(list: Reader): string[] {
  const names: string[] = []
  while (list.left > 0) names.push(list.bytes(list.number(1)).toString('latin1'))
  return names
}

function readServerName(list: Reader): string | null {
  while (list.left > 0) {
    const type = list.number(1)
    const name = list.bytes(list.number(2)).toString('latin1')
    if (type === 0) return name.toLowerCase()
  }
  return null
}
