import ipaddr from 'ipaddr.js'

/**
 * The PROXY protocol, version 2 (haproxy, proxy-protocol.txt §2.2): what front writes in front of a connection's
 * decrypted bytes, so that proxy knows the client behind the unix socket and what TLS agreed on.
 */
export interface Endpoint {
  /** IPv4 or IPv6 in text form; an IPv4 address mapped into IPv6 is written as IPv4. */
  readonly address: string
  readonly port: number
}

export interface ProxyInfo {
  readonly source: Endpoint
  readonly destination: Endpoint
  /** `h2` or `http/1.1`; null where nothing was negotiated. */
  readonly alpn: string | null
  /** The name the client asked for (SNI). */
  readonly authority: string | null
  /** `TLSv1.2` or `TLSv1.3`; null where the connection carries no TLS. */
  readonly tlsVersion: string | null
  /** Process id of the front that wrote it, so that proxy knows whose connections to end politely when it retires. */
  readonly front?: number
}

export interface DecodedProxyHeader {
  readonly info: ProxyInfo
  /** Bytes the header took; what the client sent begins there. */
  readonly length: number
}

/** A header that is not PROXY v2, is cut wrong, or is longer than any that front writes. */
export class ProxyHeaderError extends Error {
  override readonly name = 'ProxyHeaderError'
}

/** Two IPv6 endpoints, a 255-byte ALPN name and a 255-byte SNI fit; the sender is our own front. */
export const maxProxyHeaderBytes = 1024

const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
const fixedBytes = 16
const command = { local: 0x20, proxy: 0x21 }
const family = { unspec: 0x00, tcp4: 0x11, tcp6: 0x21 }
/** 0xe0 to 0xef are for applications (§2.2.8). */
const tlv = { alpn: 0x01, authority: 0x02, ssl: 0x20, sslVersion: 0x21, front: 0xe0 }
/** PP2_CLIENT_SSL: the client connected over TLS. */
const clientSsl = 0x01

/** 4 or 16 bytes; a mapped IPv4 address gives 4. Throws ProxyHeaderError for what is no address. */
function addressBytes(address: string): number[] {
  const bare = address.split('%', 1)[0] ?? ''
  if (!ipaddr.isValid(bare)) throw new ProxyHeaderError(`not an IP address: ${address}`)
  return ipaddr.process(bare).toByteArray()
}

function mapped(bytes: number[]): number[] {
  return bytes.length === 16 ? bytes : [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...bytes]
}

function field(type: number, value: Buffer): Buffer {
  const header = Buffer.allocUnsafe(3)
  header.writeUInt8(type, 0)
  header.writeUInt16BE(value.length, 1)
  return Buffer.concat([header, value])
}

/** The header for one connection. Throws ProxyHeaderError for an address, port or length that can not be written. */
export function encodeProxyHeader(info: ProxyInfo): Buffer {
  let source = addressBytes(info.source.address)
  let destination = addressBytes(info.destination.address)
  if (source.length !== destination.length) {
    source = mapped(source)
    destination = mapped(destination)
  }
  const ports = Buffer.alloc(4)
  for (const port of [info.source.port, info.destination.port]) {
    if (!Number.isInteger(port) || port < 0 || port > 65535) throw new ProxyHeaderError(`not a port: ${port}`)
  }
  ports.writeUInt16BE(info.source.port, 0)
  ports.writeUInt16BE(info.destination.port, 2)

  const body: Buffer[] = [Buffer.from(source), Buffer.from(destination), ports]
  if (info.alpn !== null) body.push(field(tlv.alpn, Buffer.from(info.alpn)))
  if (info.authority !== null) body.push(field(tlv.authority, Buffer.from(info.authority)))
  if (info.tlsVersion !== null) {
    // `verify` is non-zero: no client certificate was presented and verified (§2.2.5).
    const ssl = Buffer.from([clientSsl, 0, 0, 0, 1])
    body.push(field(tlv.ssl, Buffer.concat([ssl, field(tlv.sslVersion, Buffer.from(info.tlsVersion))])))
  }

  if (info.front !== undefined) {
    const front = Buffer.alloc(4)
    front.writeUInt32BE(info.front)
    body.push(field(tlv.front, front))
  }

  const head = Buffer.alloc(fixedBytes)
  signature.copy(head)
  head.writeUInt8(command.proxy, 12)
  head.writeUInt8(source.length === 4 ? family.tcp4 : family.tcp6, 13)
  const rest = Buffer.concat(body)
  if (fixedBytes + rest.length > maxProxyHeaderBytes) throw new ProxyHeaderError('header too long')
  head.writeUInt16BE(rest.length, 14)
  return Buffer.concat([head, rest])
}

/** Calls `visit` for each TLV of `bytes`; throws where one runs over the end. */
function eachField(bytes: Buffer, visit: (type: number, value: Buffer) => void): void {
  let at = 0
  while (at < bytes.length) {
    if (at + 3 > bytes.length) throw new ProxyHeaderError('a field is cut short')
    const type = bytes.readUInt8(at)
    const end = at + 3 + bytes.readUInt16BE(at + 1)
    if (end > bytes.length) throw new ProxyHeaderError('a field is cut short')
    visit(type, bytes.subarray(at + 3, end))
    at = end
  }
}

/**
 * The header at the start of `buffer`; null while more bytes are needed. Throws ProxyHeaderError at the first byte
 * that can not belong to one. Fields of unknown types are passed over (§2.2). LOCAL and non-TCP families are
 * refused: front speaks for clients alone.
 */
export function decodeProxyHeader(buffer: Buffer): DecodedProxyHeader | null {
  const known = Math.min(buffer.length, signature.length)
  if (buffer.compare(signature, 0, known, 0, known) !== 0) throw new ProxyHeaderError('not a PROXY v2 header')
  if (buffer.length < fixedBytes) return null
  if (buffer.readUInt8(12) !== command.proxy) throw new ProxyHeaderError('not a PROXY command of version 2')
  const kind = buffer.readUInt8(13)
  if (kind !== family.tcp4 && kind !== family.tcp6) throw new ProxyHeaderError('not TCP over IPv4 or IPv6')
  const length = fixedBytes + buffer.readUInt16BE(14)
  if (length > maxProxyHeaderBytes) throw new ProxyHeaderError('header too long')
  const size = kind === family.tcp4 ? 4 : 16
  if (length < fixedBytes + 2 * size + 4) throw new ProxyHeaderError('the addresses are cut short')
  if (buffer.length < length) return null

  const address = (at: number): string => {
    const parsed = ipaddr.fromByteArray([...buffer.subarray(at, at + size)])
    return ipaddr.process(parsed.toString()).toString()
  }
  const ports = fixedBytes + 2 * size
  let alpn: string | null = null
  let authority: string | null = null
  let tlsVersion: string | null = null
  let front: number | undefined
  eachField(buffer.subarray(ports + 4, length), (type, value) => {
    if (type === tlv.alpn) alpn = value.toString('latin1')
    else if (type === tlv.authority) authority = value.toString('utf8')
    else if (type === tlv.front && value.length === 4) front = value.readUInt32BE()
    else if (type === tlv.ssl) {
      if (value.length < 5) throw new ProxyHeaderError('the TLS field is cut short')
      if (((value[0] ?? 0) & clientSsl) === 0) return
      eachField(value.subarray(5), (inner, text) => {
        if (inner === tlv.sslVersion) tlsVersion = text.toString('latin1')
      })
    }
  })
  return {
    info: {
      source: { address: address(fixedBytes), port: buffer.readUInt16BE(ports) },
      destination: { address: address(fixedBytes + size), port: buffer.readUInt16BE(ports + 2) },
      alpn,
      authority,
      tlsVersion,
      ...(front === undefined ? {} : { front }),
    },
    length,
  }
}

export interface ProxyHeaderReader {
  /**
   * Takes the next bytes of a connection. Null while the header is not whole; then the header and what came after
   * it (perhaps empty). Throws ProxyHeaderError. Holds at most maxProxyHeaderBytes plus one chunk.
   */
  push(chunk: Buffer): { info: ProxyInfo; rest: Buffer } | null
}

/** Reads the header of one connection, however its bytes are cut. */
export function createProxyHeaderReader(): ProxyHeaderReader {
  let held: Buffer | undefined
  return {
    push(chunk) {
      held = held === undefined ? chunk : Buffer.concat([held, chunk])
      const decoded = decodeProxyHeader(held)
      return decoded === null ? null : { info: decoded.info, rest: held.subarray(decoded.length) }
    },
  }
}
