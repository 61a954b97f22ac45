import { Secret } from './secret.ts'

/** One difference between two configurations; `path` is `accessPolicies[crm].active`. */
export interface Change {
  readonly what: 'added' | 'removed' | 'changed'
  readonly path: string
  /** Of `changed`: short, and dots for a secret. */
  readonly before?: string
  readonly after?: string
}

const maxText = 120
const maxChanges = 1_000

/** What differs, in the order of the file. Secrets are compared and never told; objects of a list are known by their id. */
export function diffConfig(before: unknown, after: unknown): Change[] {
  const changes: Change[] = []
  compare(before, after, '', changes)
  return changes.slice(0, maxChanges)
}

function compare(before: unknown, after: unknown, path: string, changes: Change[]): void {
  if (before === undefined && after === undefined) return
  const whole = before === undefined ? 'added' : after === undefined ? 'removed' : undefined
  if (whole) changes.push({ what: whole, path })
  else if (before instanceof Secret || after instanceof Secret) {
    const same = before instanceof Secret && after instanceof Secret && before.reveal() === after.reveal()
    if (!same) changes.push({ what: 'changed', path, before: '•••', after: '•••' })
  } else if (isList(before) && isList(after)) compareMaps(byKey(before), byKey(after), path, changes)
  else if (isObject(before) && isObject(after)) {
    const entries = (value: object) => new Map(Object.entries(value).map(([key, each]) => [`.${key}`, each]))
    compareMaps(entries(before), entries(after), path, changes)
  } else if (JSON.stringify(before) !== JSON.stringify(after)) {
    const hidden = path.endsWith('passwordHash')
    changes.push({
      what: 'changed',
      path,
      before: hidden ? '•••' : short(before),
      after: hidden ? '•••' : short(after),
    })
  }
}

function compareMaps(
  before: ReadonlyMap<string, unknown>,
  after: ReadonlyMap<string, unknown>,
  path: string,
  changes: Change[],
): void {
  for (const key of new Set([...before.keys(), ...after.keys()])) {
    const full = `${path}${key}`
    compare(before.get(key), after.get(key), full.startsWith('.') ? full.slice(1) : full, changes)
  }
}

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A list of objects; lists of plain values are compared whole. */
const isList = (value: unknown): value is object[] => Array.isArray(value) && value.every(isObject)

/** By id where each has its own, else by place. */
function byKey(list: readonly object[]): Map<string, unknown> {
  const names = list.map((each) => {
    const { id, clientId, email } = each as Record<string, unknown>
    return id ?? clientId ?? email
  })
  const own = names.every((name) => typeof name === 'string') && new Set(names).size === names.length
  return new Map(list.map((each, at) => [`[${own ? names[at] : at}]`, each]))
}

const short = (value: unknown): string => {
  const text = JSON.stringify(value)
  return text.length > maxText ? `${text.slice(0, maxText)}…` : text
}
