import t from 'tap'
import {
  createProxyHeaderReader,
  decodeProxyHeader,
  encodeProxyHeader,
  maxProxyHeaderBytes,
  ProxyHeaderError,
  type ProxyInfo,
} from '../../shared/proxy-protocol.ts'
import { proves } from '../requirements.ts'

const v4: ProxyInfo = {
  source: { address: '192.0.2.7', port: 40100 },
  destination: { address: '198.51.100.1', port: 443 },
  alpn: 'h2',
  authority: 'gw.example',
  tlsVersion: 'TLSv1.3',
}

t.test('the bytes are those of proxy-protocol.txt', async (t) => {
  proves(t, 'GW-TLS-06')
  const bytes = encodeProxyHeader({ ...v4, alpn: null, authority: null, tlsVersion: null })
  t.equal(bytes.toString('hex'), '0d0a0d0a000d0a515549540a2111000cc0000207c63364019ca401bb')
  const full = encodeProxyHeader(v4).toString('hex')
  t.match(full, /0100026832/, 'ALPN h2 as type 01')
  t.match(full, /02000a67772e6578616d706c65/, 'SNI as type 02')
  t.match(full, /20000f010000000121000754\S+/, 'TLS as type 20 with the version inside')
})

t.test('what is written is read back', async (t) => {
  const cases: ProxyInfo[] = [
    v4,
    { ...v4, alpn: null, authority: null, tlsVersion: null },
    {
      ...v4,
      source: { address: '2001:db8::7', port: 1 },
      destination: { address: '2001:db8::1', port: 65535 },
    },
  ]
  for (const info of cases) {
    const bytes = encodeProxyHeader(info)
    t.same(decodeProxyHeader(Buffer.concat([bytes, Buffer.from('GET /')])), { info, length: bytes.length })
  }
})

t.test('a mapped IPv4 address is IPv4, mixed families and zones survive', async (t) => {
  const dual = encodeProxyHeader({
    ...v4,
    source: { address: '::ffff:192.0.2.7', port: 5 },
    destination: { address: '::ffff:198.51.100.1', port: 6 },
  })
  t.equal(dual[13], 0x11)
  t.equal(decodeProxyHeader(dual)?.info.source.address, '192.0.2.7')
  const mixed = encodeProxyHeader({ ...v4, destination: { address: 'fe80::1%eth0', port: 443 } })
  t.equal(decodeProxyHeader(mixed)?.info.source.address, '192.0.2.7')
  t.equal(decodeProxyHeader(mixed)?.info.destination.address, 'fe80::1')
})

t.test('a header cut anywhere waits for the rest and keeps what follows', async (t) => {
  const whole = Buffer.concat([encodeProxyHeader(v4), Buffer.from('POST /mcp')])
  const header = encodeProxyHeader(v4).length
  for (let cut = 0; cut < whole.length; cut++) {
    const reader = createProxyHeaderReader()
    const first = reader.push(whole.subarray(0, cut))
    if (cut < header) {
      t.equal(first, null, `cut at ${cut}`)
      t.equal(reader.push(whole.subarray(cut))?.rest.toString(), 'POST /mcp')
    } else t.same(first?.info, v4)
  }
})

t.test('what is not such a header is refused', async (t) => {
  proves(t, 'GW-TLS-07')
  const bad = (change: (bytes: Buffer) => Buffer | undefined): void => {
    const bytes = encodeProxyHeader(v4)
    const changed = change(bytes) ?? bytes
    t.throws(() => decodeProxyHeader(changed), ProxyHeaderError)
  }
  bad(() => Buffer.from('POST /mcp HTTP/1.1\r\n'))
  bad(() => Buffer.from('PROXY TCP4 '))
  bad((b) => void b.writeUInt8(0x20, 12))
  bad((b) => void b.writeUInt8(0x11, 12))
  bad((b) => void b.writeUInt8(0x31, 13))
  bad((b) => void b.writeUInt16BE(4, 14))
  bad((b) => void b.writeUInt16BE(maxProxyHeaderBytes, 14))
  // The last field claims one byte more than the header holds.
  bad((b) => void b.writeUInt16BE(b.length - 16 - 1, 14))
  bad((b) => void b.writeUInt16BE(200, 16 + 12 + 1))
  t.throws(() => encodeProxyHeader({ ...v4, source: { address: 'nobody', port: 1 } }), ProxyHeaderError)
  t.throws(() => encodeProxyHeader({ ...v4, source: { address: '10.0.0.1', port: 70000 } }), ProxyHeaderError)
  t.throws(() => encodeProxyHeader({ ...v4, authority: 'x'.repeat(1000) }), ProxyHeaderError)
})
