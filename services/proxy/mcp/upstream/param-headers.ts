import { isUtf8 } from 'node:buffer'
import type { IncomingHttpHeaders } from 'node:http'
import { isObject } from '../protocol/jsonrpc.ts'
import type { JsonObject } from '../protocol/types.ts'
import { encodeHeaderValue } from './headers.ts'
import type { Headers } from './http.ts'

/** One argument that goes in a header too: `x-mcp-header` in a tool's input schema (MCP 2026-07-28, streamable HTTP). */
export interface ParamHeader {
  /** Names of properties, from the arguments down. */
  readonly path: readonly string[]
  /** Lower case, `mcp-param-` in front. */
  readonly header: string
  readonly type: 'string' | 'integer' | 'boolean'
}

/** The declarations of a schema, or why it is not a valid one. */
export type Declared = { readonly headers: readonly ParamHeader[] } | { readonly invalid: string }

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/
const types: readonly unknown[] = ['string', 'integer', 'boolean']
const key = 'x-mcp-header'
/** Schemas are walked at most this deep and this long: they come from servers. */
const maxDepth = 32
const maxNodes = 20_000
const maxHeaders = 32
const none: Declared = Object.freeze({ headers: [] })

const known = new WeakMap<JsonObject, Declared>()

/** Read once per tool definition. */
export function declaredBy(tool: JsonObject): Declared {
  let declared = known.get(tool)
  if (!declared) {
    declared = scan(tool.inputSchema)
    known.set(tool, declared)
  }
  return declared
}

function scan(schema: unknown): Declared {
  const headers: ParamHeader[] = []
  let nodes = 0

  /** `path`: null where no chain of `properties` alone leads. Gives the first fault. */
  const visit = (node: unknown, path: readonly string[] | null, depth: number): string | undefined => {
    if (typeof node !== 'object' || node === null) return undefined
    if (depth > maxDepth || ++nodes > maxNodes) return 'the schema is too large to look through'
    if (Array.isArray(node)) return first(node, (item) => visit(item, null, depth + 1))
    const found = node as JsonObject
    if (Object.hasOwn(found, key)) {
      const fault = take(found, path)
      if (fault !== undefined) return fault
    }
    return first(Object.entries(found), ([name, value]) => {
      // Values, not schemas: an example may look like anything.
      if (['default', 'const', 'enum', 'examples', key].includes(name)) return undefined
      if (name !== 'properties' || !isObject(value)) return visit(value, null, depth + 1)
      return first(Object.entries(value), ([property, child]) =>
        visit(child, path && [...path, property], depth + 1),
      )
    })
  }
  const take = (found: JsonObject, path: readonly string[] | null): string | undefined => {
    const { [key]: name, type } = found
    if (!path || path.length === 0) return `${key} stands where no chain of properties leads`
    const where = path.join('.')
    if (typeof name !== 'string' || !token.test(name)) return `${where}: ${key} is no header name`
    if (!types.includes(type)) return `${where}: ${key} is for string, integer and boolean alone`
    const header = `mcp-param-${name.toLowerCase()}`
    if (headers.some((other) => other.header === header)) return `${where}: ${key} ${name} is used twice`
    if (headers.length === maxHeaders) return `more than ${maxHeaders} arguments have an ${key}`
    headers.push({ path, header, type: type as ParamHeader['type'] })
    return undefined
  }
  const invalid = visit(schema, [], 0)
  if (invalid !== undefined) return { invalid }
  return headers.length === 0 ? none : { headers }
}

function first<T>(items: readonly T[], find: (item: T) => string | undefined): string | undefined {
  for (const item of items) {
    const found = find(item)
    if (found !== undefined) return found
  }
  return undefined
}

/** The `Mcp-Param-*` headers of a call. An argument that is absent, null, or neither text, a safe integer nor a boolean has none. */
export function paramHeaders(tool: JsonObject, args: unknown): Headers {
  const declared = declaredBy(tool)
  if ('invalid' in declared) return {}
  const pairs = declared.headers.flatMap(({ path, header }) => {
    const text = textOf(valueAt(args, path))
    return text === undefined ? [] : [[header, encodeHeaderValue(text)] as const]
  })
  return Object.fromEntries(pairs)
}

/** The first header that does not say what the body says; undefined where all do. Unknown headers are nobody's concern. */
export function disagreeing(
  tool: JsonObject,
  args: unknown,
  headers: IncomingHttpHeaders,
): { header: string; why: string } | undefined {
  const declared = declaredBy(tool)
  if ('invalid' in declared) return undefined
  for (const { path, header, type } of declared.headers) {
    const value = textOf(valueAt(args, path))
    const given = headers[header]
    const sent = typeof given === 'string' ? decodeHeaderValue(given.trim()) : undefined
    if (value === undefined && given === undefined) continue
    if (value === undefined) return { header, why: 'the body has no such argument' }
    if (given === undefined) return { header, why: 'missing' }
    // 42 and 42.0 are one integer.
    const same = sent === value || (type === 'integer' && isNumber(sent) && Number(sent) === Number(value))
    if (!same) return { header, why: 'not the body’s' }
  }
  return undefined
}

const sentinel = /^=\?base64\?([A-Za-z0-9+/]*={0,2})\?=$/

/**
 * The value behind `=?base64?…?=` (MCP 2026-07-28, header encoding), or the value itself. Undefined where the sentinel
 * holds no UTF-8 text in base64.
 */
export function decodeHeaderValue(value: string): string | undefined {
  const encoded = sentinel.exec(value)?.[1]
  if (encoded === undefined) return value
  const bytes = Buffer.from(encoded, 'base64')
  if (bytes.toString('base64') !== encoded || !isUtf8(bytes)) return undefined
  return bytes.toString('utf8')
}

const isNumber = (text: string | undefined): boolean => text !== undefined && /^-?\d+(\.\d+)?$/.test(text)

function valueAt(args: unknown, path: readonly string[]): unknown {
  let value = args
  for (const name of path) value = isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined
  return value
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return String(value)
  return typeof value === 'number' && Number.isSafeInteger(value) ? String(value) : undefined
}
