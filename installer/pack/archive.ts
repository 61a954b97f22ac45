import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, globSync, lstatSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

export const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')

/** Every file below `folder`, in one order. */
export const filesBelow = (folder: string): string[] =>
  globSync('**', { cwd: folder })
    .filter((path) => path !== '.' && lstatSync(join(folder, path)).isFile())
    .sort()

/** What `sha256sum -c` reads. */
export const sums = (folder: string, paths: readonly string[]): string =>
  paths.map((path) => `${sha256(join(folder, path))}  ${path}\n`).join('')

/** Modes that do not depend on who packs: programs 0755, everything else 0644. */
export function setModes(folder: string, programs: ReadonlySet<string>): void {
  for (const path of globSync('**', { cwd: folder })) {
    const absolute = join(folder, path)
    const runs = lstatSync(absolute).isDirectory() || programs.has(path)
    chmodSync(absolute, runs ? 0o755 : 0o644)
  }
}

/** A `.tar.gz` whose bytes depend on the content alone: sorted, one time, owner root, no name or time in the gzip. */
export function archive(folder: string, to: string, epoch: number): void {
  const fixed = [
    '--sort=name',
    `--mtime=@${epoch}`,
    '--owner=0',
    '--group=0',
    '--numeric-owner',
    '--format=gnu',
  ]
  execFileSync('tar', [...fixed, '-I', 'gzip -n -6', '-cf', to, '-C', dirname(folder), basename(folder)], {
    env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' },
  })
}
