import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface BuildInfo {
  readonly version: string
  readonly gitSHA: string
}

/** `version` and, where a release put it there, `gitHead` of package.json; else the commit of the checkout. */
export function readBuildInfo(root = join(import.meta.dirname, '../..')): BuildInfo {
  const read = (path: string): string | undefined => {
    try {
      return readFileSync(join(root, path), 'utf8').trim()
    } catch {
      return undefined
    }
  }
  const manifest = JSON.parse(read('package.json') ?? '{}') as { version?: string; gitHead?: string }
  const head = read('.git/HEAD')
  const commit = head?.startsWith('ref: ') ? read(join('.git', head.slice('ref: '.length))) : head
  return { version: manifest.version ?? '0.0.0', gitSHA: manifest.gitHead ?? commit ?? 'unknown' }
}
