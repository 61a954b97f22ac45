/**
 * Glob patterns over tool names: `*` any run of characters, `?` one character, `[abc]`, `[a-z]` one of a set, `[!abc]`
 * one not of it; `**` only as the whole pattern. Case-sensitive, whole name. No regular expressions behind it: a
 * match costs at most pattern × name, whatever the pattern.
 */
export const maxGlobChars = 128
/** Longest text that is matched; a longer one matches nothing. Tool names have 128 characters at most. */
const maxTextChars = 4096

type Part = { readonly kind: 'any' } | { readonly kind: 'one'; readonly fits: (char: string) => boolean }

export type Glob = (text: string) => boolean

/** What is wrong with a pattern, in words for its author; undefined where nothing is. */
export function globProblem(pattern: string): string | undefined {
  if (pattern === '') return 'is empty, write a tool name or a pattern such as jira_*'
  if (pattern.length > maxGlobChars) return `is longer than ${maxGlobChars} characters, shorten it`
  const illegal = /[./\\{}^]/.exec(pattern)
  if (illegal)
    return `has "${illegal[0]}", which patterns of tool names can not have; use * ? [set] [a-z] [!set]`
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  if (/[\u0000-\u0020\u007f-\uffff]/.test(pattern))
    return 'has a character that no tool name has, write visible ASCII'
  if (pattern.includes('**') && pattern !== '**') return 'has "**" beside other text, write * there'
  const parsed = parse(pattern)
  return typeof parsed === 'string' ? parsed : undefined
}

/** Throws RangeError with the words of `globProblem`. */
export function compileGlob(pattern: string): Glob {
  const problem = globProblem(pattern)
  const parts = problem === undefined ? parse(pattern) : problem
  if (typeof parts === 'string') throw new RangeError(`pattern "${pattern.slice(0, 40)}" ${parts}`)
  if (parts.every(({ kind }) => kind === 'any')) return (text) => text.length <= maxTextChars
  return (text) => text.length <= maxTextChars && fits(parts, text)
}

function parse(pattern: string): Part[] | string {
  const parts: Part[] = []
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern.charAt(at)
    if (char === '*') {
      if (parts.at(-1)?.kind !== 'any') parts.push({ kind: 'any' })
    } else if (char === '?') parts.push({ kind: 'one', fits: () => true })
    else if (char === ']') return 'has a "]" without its "["'
    else if (char !== '[') parts.push({ kind: 'one', fits: (given) => given === char })
    else {
      const end = pattern.indexOf(']', at + 2)
      if (end === -1) return 'has a "[" without its "]"'
      const set = parseSet(pattern.slice(at + 1, end))
      if (typeof set === 'string') return set
      parts.push({ kind: 'one', fits: set })
      at = end
    }
  }
  return parts
}

function parseSet(text: string): ((char: string) => boolean) | string {
  const negated = text.startsWith('!')
  const body = negated ? text.slice(1) : text
  if (body === '') return 'has an empty set "[!]", name at least one character'
  if (body.includes('[')) return 'has a "[" inside a set'
  const ranges: [string, string][] = []
  for (let at = 0; at < body.length; at++) {
    const from = body.charAt(at)
    const to = body.charAt(at + 1) === '-' ? body.charAt(at + 2) : ''
    if (to === '') ranges.push([from, from])
    else if (from > to) return `has the range "${from}-${to}", which runs backwards`
    else {
      ranges.push([from, to])
      at += 2
    }
  }
  return (char) => ranges.some(([from, to]) => from <= char && char <= to) !== negated
}

/** Goes back to the last star alone, which is enough for globs and keeps the cost at parts × text. */
function fits(parts: readonly Part[], text: string): boolean {
  let part = 0
  let star = -1
  let starText = 0
  let at = 0
  while (at < text.length) {
    const current = parts[part]
    if (current?.kind === 'one' && current.fits(text.charAt(at))) {
      part++
      at++
    } else if (current?.kind === 'any') {
      star = part++
      starText = at
    } else if (star !== -1) {
      part = star + 1
      at = ++starText
    } else return false
  }
  while (parts[part]?.kind === 'any') part++
  return part === parts.length
}
