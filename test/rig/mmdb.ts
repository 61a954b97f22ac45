import { isIPv4 } from 'node:net'

/** What a database says of a network. */
export interface Place {
  /** CIDR block, IPv4 or IPv6. */
  network: string
  country: string
  subdivisions?: string[]
}

/**
 * A small database in MaxMind DB format 2.0 (https://maxmind.github.io/MaxMind-DB/): an IPv6 tree with IPv4 under
 * ::/96, records of 24 bits. For tests that need real look-ups in a few networks.
 */
export function writeMmdb(places: readonly Place[]): Buffer {
  type Branch = Node | number | null
  interface Node {
    sides: [Branch, Branch]
  }
  const root: Node = { sides: [null, null] }
  const data: Buffer[] = []
  const offsets: number[] = []
  let size = 0
  for (const [at, { network, country, subdivisions }] of places.entries()) {
    const record = encode({
      country: { iso_code: country },
      ...(subdivisions ? { subdivisions: subdivisions.map((iso_code) => ({ iso_code })) } : {}),
    })
    data.push(record)
    offsets.push(size)
    size += record.length
    const [address = '', bits = ''] = network.split('/')
    const path = bitsOf(address)
    const depth = Number(bits) + (isIPv4(address) ? 96 : 0)
    let node = root
    for (let bit = 0; bit < depth; bit++) {
      const side = path[bit] as 0 | 1
      if (bit === depth - 1) {
        node.sides[side] = at
        break
      }
      const next = node.sides[side]
      if (typeof next === 'number') throw new Error('networks overlap')
      node.sides[side] = next ?? { sides: [null, null] }
      node = node.sides[side] as Node
    }
  }

  const nodes: Node[] = []
  const ids = new Map<Node, number>()
  const collect = (node: Node): void => {
    ids.set(node, nodes.length)
    nodes.push(node)
    for (const side of node.sides) if (side !== null && typeof side !== 'number') collect(side)
  }
  collect(root)
  const tree = Buffer.alloc(nodes.length * 6)
  for (const [at, node] of nodes.entries()) {
    for (const [side, branch] of node.sides.entries()) {
      const value =
        branch === null
          ? nodes.length
          : typeof branch === 'number'
            ? nodes.length + 16 + (offsets[branch] ?? 0)
            : (ids.get(branch) ?? 0)
      tree.writeUIntBE(value, at * 6 + side * 3, 3)
    }
  }
  const metadata = encode({
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: 1_700_000_000,
    database_type: 'GeoLite2-City',
    description: { en: 'a test' },
    ip_version: 6,
    languages: ['en'],
    node_count: nodes.length,
    record_size: 24,
  })
  return Buffer.concat([
    tree,
    Buffer.alloc(16),
    ...data,
    Buffer.from([0xab, 0xcd, 0xef]),
    Buffer.from('MaxMind.com'),
    metadata,
  ])
}

function bitsOf(address: string): (0 | 1)[] {
  const bytes = isIPv4(address)
    ? [...Buffer.alloc(12), ...address.split('.').map(Number)]
    : groupsOf(address).flatMap((group) => [group >> 8, group & 0xff])
  return bytes.flatMap((byte) => [7, 6, 5, 4, 3, 2, 1, 0].map((bit) => ((byte >> bit) & 1) as 0 | 1))
}

function groupsOf(address: string): number[] {
  const [head = '', tail] = address.split('::')
  const parse = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16))
  const front = parse(head)
  if (tail === undefined) return front
  const back = parse(tail)
  return [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back]
}

/** Types 2 (text), 6 (uint32), 7 (map), 11 (array) of the format's data section. */
function encode(value: unknown): Buffer {
  if (typeof value === 'string') {
    const bytes = Buffer.from(value)
    return Buffer.concat([head(2, bytes.length), bytes])
  }
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(value)
    return Buffer.concat([head(6, 4), bytes])
  }
  if (Array.isArray(value)) return Buffer.concat([head(11, value.length), ...value.map(encode)])
  const entries = Object.entries(value as object)
  return Buffer.concat([
    head(7, entries.length),
    ...entries.flatMap(([key, each]) => [encode(key), encode(each)]),
  ])
}

function head(type: number, size: number): Buffer {
  if (size >= 29) throw new Error('too large for this writer')
  return type <= 7 ? Buffer.from([(type << 5) | size]) : Buffer.from([size, type - 7])
}
