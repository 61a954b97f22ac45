import t from 'tap'
import { outlineJson, parseJson } from '../../../services/proxy/json.ts'
import { Fault } from '../../../shared/faults.ts'
import { proves } from '../../requirements.ts'

const depth = 16
const parse = (text: string): unknown => parseJson(Buffer.from(text), depth)
const codeOf = (text: string | Buffer): string => {
  try {
    parseJson(Buffer.from(text as string), depth)
    return 'accepted'
  } catch (error) {
    return error instanceof Fault ? error.code : String(error)
  }
}

t.test('says what is wrong with a body', async (t) => {
  proves(t, 'HTTP-21')
  const table: [string, string | Buffer, string][] = [
    ['cut short', '{"a":1', 'rpc.parse'],
    ['no JSON', 'hello', 'rpc.parse'],
    ['empty', '', 'rpc.parse'],
    ['trailing text', '{} {}', 'rpc.parse'],
    ['an open string', '{"a', 'rpc.parse'],
    ['not UTF-8', Buffer.from([0x22, 0xff, 0x22]), 'rpc.parse'],
    ['a byte order mark', '\ufeff{}', 'rpc.parse'],
    ['the same key twice', '{"method":"a","method":"b"}', 'rpc.duplicate_key'],
    ['the same key twice, deep', '{"a":[{"b":{"c":1,"d":2,"c":3}}]}', 'rpc.duplicate_key'],
    ['the same key, once escaped', '{"name":1,"n\\u0061me":2}', 'rpc.duplicate_key'],
    ['__proto__ twice', '{"__proto__":1,"__proto__":2}', 'rpc.duplicate_key'],
    ['the same key in two objects', '[{"a":1},{"a":2}]', 'accepted'],
    ['colons and quotes in strings', '{"a:\\"b\\\\":"{[:\\"","c":"\\\\"}', 'accepted'],
    ['as deep as allowed', '['.repeat(16) + ']'.repeat(16), 'accepted'],
    ['one too deep', '['.repeat(17) + ']'.repeat(17), 'rpc.too_deep'],
    ['a million deep and never closed', '{"a":'.repeat(1_000_000), 'rpc.too_deep'],
  ]
  for (const [name, body, code] of table) t.equal(codeOf(body), code, name)
})

/** Small deterministic generator (mulberry32), so that a failure can be repeated. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296
  }
}

t.test('agrees with JSON.parse on random documents', async (t) => {
  proves(t, 'HTTP-22')
  const random = generator(20261123)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!
  const texts = [
    '',
    'a',
    ':',
    '"',
    '\\',
    '\\"',
    '{',
    '}',
    '[',
    ']',
    ',',
    'ü',
    '\u2028',
    '\n',
    '😀',
    '__proto__',
    '0',
  ]
  const string = (): string => Array.from({ length: Math.floor(random() * 4) }, () => pick(texts)).join('')
  const value = (left: number): unknown => {
    const kind = left === 0 ? 0 : random()
    if (kind < 0.4) return pick([null, true, 1.5e10, -0, string(), string()])
    const size = Math.floor(random() * 4)
    if (kind < 0.7) return Array.from({ length: size }, () => value(left - 1))
    return Object.fromEntries(Array.from({ length: size }, () => [string(), value(left - 1)]))
  }
  let refused = 0
  const problems: string[] = []
  for (let round = 0; round < 20_000; round++) {
    const original = value(5)
    const text = JSON.stringify(original, null, pick([0, 1]))
    // Against the parser, not the original: V8 13.6 reads the key "\\n" as "\\" once it has seen the key "\\".
    if (JSON.stringify(parse(text)) !== JSON.stringify(JSON.parse(text))) problems.push(escape(text))
    // Bytes changed at random: accepted only where JSON.parse accepts the same text.
    const at = Math.floor(random() * text.length)
    const broken = text.slice(0, at) + pick(texts) + text.slice(at + Math.floor(random() * 2))
    let valid = true
    try {
      JSON.parse(broken)
    } catch {
      valid = false
    }
    const code = codeOf(broken)
    if (!valid) refused++
    if (valid ? code === 'rpc.parse' : code === 'accepted') problems.push(escape(broken))
  }
  t.strictSame(problems, [])
  t.ok(refused > 5_000, 'the fuzz reached invalid documents')
})

t.test('stops counting where it is too deep', async (t) => {
  proves(t, 'HTTP-23')
  t.strictSame(outlineJson('[[[[{"a":1}]]]]', 2), { depth: 3, members: 0 })
})
