import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { version } from '../../shared/version.ts'

export interface BuildInfo {
  readonly version: string
  readonly gitSHA: string
}

/** The commit: `gitHead` of package.json where a release put it there, else that of the checkout. */
export function readBuildInfo(root = join(import.meta.dirname, '../..')): BuildInfo {
  const read = (path: string): string | undefined => {
    try {
      return readFileSync(join(root, path), 'utf8').trim()
    } catch {
      return undefined
    }
  }
  const { gitHead } = JSON.parse(read('package.json') ?? '{}') as { gitHead?: string }
  const head = read('.git/HEAD')
  const commit = head?.startsWith('ref: ') ? read(join('.git', head.slice('ref: '.length))) : head
  return { version, gitSHA: gitHead ?? commit ?? 'unknown' }
}
