import { execFileSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { LockedPackage } from './dependencies.ts'

const bomSchema = z.looseObject({
  metadata: z.looseObject({ component: z.looseObject({ 'bom-ref': z.string() }) }),
  components: z.array(z.looseObject({ 'bom-ref': z.string(), name: z.string(), version: z.string() })),
  dependencies: z.array(z.looseObject({ ref: z.string(), dependsOn: z.array(z.string()).default([]) })),
})
export type BillOfMaterials = z.infer<typeof bomSchema>

/**
 * `npm sbom` of everything in package-lock.json. Without `--omit dev`, which loses packages that a development
 * dependency uses as well.
 */
export function readBillOfMaterials(root: string): BillOfMaterials {
  const npm = ['sbom', '--sbom-format', 'cyclonedx', '--package-lock-only']
  const text = execFileSync('npm', npm, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return bomSchema.parse(JSON.parse(text))
}

/**
 * The part of it that one tarball holds (CycloneDX 1.5). Each package once, in order, and without what npm adds of itself
 * (serial number, time, its version, properties): the same commit has the same document, whatever npm makes it.
 */
export function billOfMaterials(
  whole: BillOfMaterials,
  { name, version, packages }: { name: string; version: string; packages: readonly LockedPackage[] },
): string {
  const held = new Set(packages.map((each) => `${each.name}@${each.version}`))
  const own = whole.metadata.component['bom-ref']
  const components = once(whole.components, (each) => each['bom-ref'])
    .filter((each) => held.has(`${each.name}@${each.version}`))
    .map(({ properties: _properties, ...each }) => each)
  const missing = [...held].filter((id) => !components.some((each) => `${each.name}@${each.version}` === id))
  if (missing.length > 0) throw new Error(`npm sbom does not know ${missing.join(', ')}`)
  const refs = new Set([own, ...components.map((each) => each['bom-ref'])])
  const { serialNumber: _serial, ...rest } = whole as BillOfMaterials & { serialNumber?: string }
  const {
    timestamp: _timestamp,
    tools: _tools,
    ...metadata
  } = whole.metadata as typeof whole.metadata & { timestamp?: string; tools?: unknown }
  const { properties: _properties, ...described } = metadata.component
  const component = { ...described, type: 'application', name, version }
  const dependencies = once(whole.dependencies, ({ ref }) => ref)
    .filter(({ ref }) => refs.has(ref))
    .map(({ ref, dependsOn }) => ({
      ref,
      dependsOn: [...new Set(dependsOn)].filter((each) => refs.has(each)).sort(),
    }))
  return `${JSON.stringify({ ...rest, metadata: { ...metadata, component }, components, dependencies }, null, 2)}\n`
}

/** The first of each key, by key: npm 10 lists a package once for each place where it lies. */
function once<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  const found = new Map<string, T>()
  for (const item of items) if (!found.has(keyOf(item))) found.set(keyOf(item), item)
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, item]) => item)
}

/** The licence texts of everything that a tarball carries, each text once for its packages. */
export function notices(folders: readonly { folder: string; packaged: LockedPackage }[]): string {
  const texts = new Map<string, Set<string>>()
  for (const { folder, packaged } of folders) {
    const files = globSync('{LICENSE,LICENCE,COPYING,NOTICE}*', {
      cwd: folder,
      nocase: true,
    } as object).sort()
    const found = files.map((file) =>
      readFileSync(join(folder, file), 'utf8').replaceAll('\r\n', '\n').trim(),
    )
    const text =
      found.join('\n\n') || `Licensed under ${packaged.license}; the package carries no licence text.`
    const users = texts.get(text) ?? new Set()
    texts.set(text, users.add(`${packaged.name} ${packaged.version} (${packaged.license})`))
  }
  const rule = '='.repeat(80)
  const parts = [...texts].map(
    ([text, users]) => `${rule}\n${[...users].sort().join('\n')}\n${rule}\n\n${text}\n`,
  )
  return `This product holds the following software of others.\n\n${parts.sort().join('\n')}`
}
