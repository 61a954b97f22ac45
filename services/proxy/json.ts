import { isUtf8 } from 'node:buffer'
import { Fault } from '../../shared/faults.ts'

const quote = 0x22
const backslash = 0x5c

export interface Outline {
  /** Deepest nesting of objects and arrays. */
  depth: number
  /** Object members as written, so one more than what a parser keeps for each key that repeats. */
  members: number
}

/**
 * Depth and member count of a JSON text in one pass that only stops at structure: strings are jumped over. The
 * text need not be valid; what this says of an invalid one means nothing, and the parser refuses it anyway.
 * Stops at the first bracket deeper than `maxDepth`, so hostile nesting is never built.
 */
export function outlineJson(text: string, maxDepth: number): Outline {
  let depth = 0
  let deepest = 0
  let members = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case quote: {
        at = endOfString(text, at)
        break
      }
      case 0x7b: // {
      case 0x5b: // [
        if (++depth > deepest) deepest = depth
        if (depth > maxDepth) return { depth, members }
        break
      case 0x7d: // }
      case 0x5d: // ]
        depth--
        break
      case 0x3a: // :
        members++
    }
  }
  return { depth: deepest, members }
}

/** Index of the quote that closes the string opened at `start`; the text's length where none does. */
function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1)
  while (end !== -1) {
    let slashes = 0
    while (text.charCodeAt(end - 1 - slashes) === backslash) slashes++
    if (slashes % 2 === 0) return end
    end = text.indexOf('"', end + 1)
  }
  return text.length
}

/** Members that the parsed value holds, all levels. Recursion is bounded by the depth check before it. */
function countMembers(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  let count = 0
  if (Array.isArray(value)) {
    for (const item of value) if (typeof item === 'object') count += countMembers(item)
    return count
  }
  const keys = Object.keys(value)
  count = keys.length
  for (const key of keys) {
    const item = (value as Record<string, unknown>)[key]
    if (typeof item === 'object') count += countMembers(item)
  }
  return count
}

/**
 * JSON from a client: UTF-8, at most `maxDepth` deep, no key twice in one object (what a policy reads and what a
 * server reads must be the same value). Members written and members kept are counted and compared, which
 * treats `"a"` and `"\u0061"` as the parser does and needs no set of keys.
 *
 * Throws rpc.parse, rpc.too_deep, rpc.duplicate_key.
 */
export function parseJson(body: Buffer, maxDepth: number): unknown {
  if (!isUtf8(body)) throw new Fault('rpc.parse', { detail: 'the body is not UTF-8' })
  const text = body.toString('utf8')
  const outline = outlineJson(text, maxDepth)
  if (outline.depth > maxDepth) throw new Fault('rpc.too_deep')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new Fault('rpc.parse', { cause: error })
  }
  if (countMembers(value) !== outline.members) throw new Fault('rpc.duplicate_key')
  return value
}
