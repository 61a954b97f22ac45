import { cpSync, existsSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { z } from 'zod'

const names = z.record(z.string(), z.string()).default({})
const lockSchema = z.object({
  packages: z.record(
    z.string(),
    z.object({
      version: z.string().optional(),
      integrity: z.string().optional(),
      license: z.string().optional(),
      dependencies: names,
      optionalDependencies: names,
      peerDependencies: names,
      hasInstallScript: z.boolean().optional(),
    }),
  ),
})

export interface LockedPackage {
  /** Below the root, e.g. `node_modules/koa/node_modules/fresh`. */
  readonly path: string
  readonly name: string
  readonly version: string
  /** Subresource integrity of the registry's tarball. */
  readonly integrity: string
  readonly license: string
}

export class Lock {
  readonly #packages: z.infer<typeof lockSchema>['packages']

  constructor(root: string) {
    const text = readFileSync(join(root, 'package-lock.json'), 'utf8')
    this.#packages = lockSchema.parse(JSON.parse(text)).packages
  }

  get(path: string): LockedPackage {
    const found = this.#packages[path]
    if (!found?.version || !found.integrity) throw new Error(`package-lock.json does not pin ${path}`)
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
    const { version, integrity, license = 'unknown' } = found
    return { path, name, version, integrity, license }
  }

  /**
   * The packages that `roots` need at run time, themselves included, in the order of their paths. Throws where one has
   * an install script: nothing of the kind runs on a host.
   */
  closure(roots: Iterable<string>): LockedPackage[] {
    const found = new Set<string>()
    const add = (name: string, from: string, wanted: boolean): void => {
      const path = this.#resolve(name, from)
      if (path === undefined) {
        if (wanted)
          throw new Error(`${from || 'the project'} needs ${name}, which package-lock.json does not have`)
        return
      }
      if (found.has(path) || name.startsWith('@types/')) return
      found.add(path)
      const { dependencies, optionalDependencies, peerDependencies, hasInstallScript } = this.#packages[path]!
      if (hasInstallScript) throw new Error(`${path} has an install script`)
      for (const each of Object.keys(dependencies)) add(each, path, true)
      for (const each of Object.keys({ ...optionalDependencies, ...peerDependencies })) add(each, path, false)
    }
    for (const name of roots) add(name, '', true)
    return [...found].sort().map((path) => this.get(path))
  }

  /** As Node.js looks for a package: next to `from`, then outwards. */
  #resolve(name: string, from: string): string | undefined {
    for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
      const path = at === '' ? `node_modules/${name}` : `${at}/node_modules/${name}`
      if (this.#packages[path]) return path
      if (at === '' || !at.includes('/node_modules/')) {
        return at !== '' && this.#packages[`node_modules/${name}`] ? `node_modules/${name}` : undefined
      }
    }
  }
}

/** What no program reads at run time: by its ending anywhere, by its name at the top of a package. */
const uselessFile = /\.(d\.[cm]?ts|ts|mts|cts|map|md|markdown|flow|tsbuildinfo)$/i
const uselessFolder = /^(\.github|tests?|__tests__|benchmarks?|examples?|coverage)$/i

/** Copies installed packages; refuses what is not the version that the lock file pins. */
export function stagePackages(root: string, packages: readonly LockedPackage[], target: string): void {
  for (const { path, version } of packages) {
    const from = join(root, path)
    const manifest = join(from, 'package.json')
    const installed = existsSync(manifest)
      ? (JSON.parse(readFileSync(manifest, 'utf8')) as { version?: string }).version
      : undefined
    if (installed !== version)
      throw new Error(`${path} is ${installed ?? 'missing'}, not ${version}: run npm ci`)
    cpSync(from, join(target, path), {
      recursive: true,
      filter: (source) => {
        const inside = source.slice(from.length + 1)
        const name = basename(inside)
        // Packages within packages are pinned, and copied, by themselves.
        if (name === 'node_modules' || uselessFile.test(name)) return false
        return !uselessFolder.test(inside)
      },
    })
  }
}
