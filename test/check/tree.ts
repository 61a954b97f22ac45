import { execFileSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface SourceFile {
  /** Relative to the root, with `/`. */
  readonly path: string
  readonly text: string
  readonly lines: readonly string[]
}

const binary = /\.(png|jpg|jpeg|gif|ico|woff2?|tgz|gz|db)$/

/** Every file that git knows or would add; every file outside node_modules where the folder is no repository. */
export function listTree(root: string): SourceFile[] {
  return paths(root)
    .filter((path) => !binary.test(path))
    .flatMap((path) => {
      try {
        const text = readFileSync(join(root, path), 'utf8')
        return [{ path, text, lines: text.split('\n') }]
      } catch {
        return [] // Deleted in the working tree and not committed yet.
      }
    })
}

function paths(root: string): string[] {
  try {
    const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
    const listed = execFileSync('git', args, {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    return [...new Set(listed.split('\0').filter(Boolean))]
  } catch {
    return globSync('**', {
      cwd: root,
      exclude: (entry) => entry.name === 'node_modules',
      withFileTypes: true,
    })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length).replace(/^\/+/, ''))
  }
}
