import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Lock } from './dependencies.ts'
import type { Architecture } from './products.ts'

/**
 * The folder of the Node.js runtime for an architecture: the npm package that package-lock.json pins, from
 * node_modules where it is installed there, else fetched by npm and checked against the lock's integrity.
 */
export function runtimeFolder(root: string, lock: Lock, arch: Architecture, cache: string): string {
  const pinned = lock.get(`node_modules/node-linux-${arch}`)
  const installed = join(root, pinned.path)
  if (versionOf(installed) === pinned.version) return installed

  const kept = join(cache, `${pinned.name}-${pinned.version}`)
  if (versionOf(kept) === pinned.version) return kept
  mkdirSync(cache, { recursive: true })
  const work = mkdtempSync(join(cache, 'fetch-'))
  try {
    const npm = [
      'pack',
      '--silent',
      '--ignore-scripts',
      '--pack-destination',
      work,
      `${pinned.name}@${pinned.version}`,
    ]
    const file = execFileSync('npm', npm, { encoding: 'utf8' }).trim().split('\n').at(-1) ?? ''
    const tarball = join(work, file)
    const digest = createHash('sha512').update(readFileSync(tarball)).digest('base64')
    if (`sha512-${digest}` !== pinned.integrity) {
      throw new Error(`${pinned.name}@${pinned.version} from the registry is not what package-lock.json pins`)
    }
    execFileSync('tar', [
      '-xzf',
      tarball,
      '-C',
      work,
      'package/package.json',
      'package/bin/node',
      'package/LICENSE',
    ])
    renameSync(join(work, 'package'), kept)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return kept
}

/** Copies the one program that is needed: no npm, no headers. */
export function stageRuntime(folder: string, target: string): void {
  mkdirSync(join(target, 'bin'), { recursive: true })
  cpSync(join(folder, 'bin/node'), join(target, 'bin/node'))
  chmodSync(join(target, 'bin/node'), 0o755)
}

function versionOf(folder: string): string | undefined {
  const manifest = join(folder, 'package.json')
  if (!existsSync(manifest) || !existsSync(join(folder, 'bin/node'))) return undefined
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version?: string }).version
}
