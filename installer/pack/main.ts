import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { archive, filesBelow, setModes, sums } from './archive.ts'
import { Lock, type LockedPackage, stagePackages } from './dependencies.ts'
import { type BillOfMaterials, billOfMaterials, notices, readBillOfMaterials } from './documents.ts'
import {
  type Application,
  type Architecture,
  applications,
  architectures,
  bundleName,
  products,
} from './products.ts'
import { runtimeFolder, stageRuntime } from './runtime.ts'
import { stageSources } from './sources.ts'

/**
 * `npm run pack [-- --arch x64,arm64 --product aembit_mcp_gateway --out dist]`: one tarball per product and
 * architecture, its bill of materials beside it, and SHA256SUMS. The same commit gives the same bytes.
 */
const root = fileURLToPath(new URL('../..', import.meta.url))
const { values } = parseArgs({
  options: {
    arch: { type: 'string', default: architectures.join(',') },
    product: { type: 'string', default: Object.keys(products).join(',') },
    out: { type: 'string', default: 'dist' },
    /** Overrides package.json's, for a test of upgrades. */
    version: { type: 'string' },
  },
})
const choose = <T extends string>(text: string, known: readonly T[], what: string): T[] =>
  text.split(',').map((name) => {
    const found = known.find((each) => each === name)
    if (found === undefined) throw new Error(`${name} is no ${what}: one of ${known.join(', ')}`)
    return found
  })

const git = (...args: string[]): string => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim()
const inGit = existsSync(join(root, '.git'))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string
  license: string
}
const version = values.version ?? manifest.version
const commit = inGit ? git('rev-parse', 'HEAD') : 'unknown'
const epoch = Number(process.env.SOURCE_DATE_EPOCH ?? (inGit ? git('log', '-1', '--format=%ct') : 0))
if (inGit && git('status', '--porcelain') !== '')
  console.error('pack: there are changes that no commit holds')

const out = resolve(root, values.out)
const lock = new Lock(root)
const whole = readBillOfMaterials(root)

/** One application as it will lie under /opt: program, code, packages. Returns the packages. */
function stageApplication(name: Application, target: string): LockedPackage[] {
  const { services, entry, settings } = applications[name]
  const folders = [...services.map((service) => `services/${service}`), 'shared']
  const packages = lock.closure(stageSources(root, folders, target))
  stagePackages(root, packages, target)
  const { license } = manifest
  writeFileSync(
    join(target, 'package.json'),
    `${JSON.stringify({ name, version, private: true, type: 'module', license, gitHead: commit }, null, 2)}\n`,
  )
  mkdirSync(join(target, 'bin'), { recursive: true })
  const wrapper = readFileSync(join(root, 'installer/host/wrapper.sh'), 'utf8')
  writeFileSync(
    join(target, 'bin', name),
    wrapper
      .replaceAll('@name@', name)
      .replaceAll('@entry@', `${entry}.js`)
      .replaceAll('@settings@', settings),
  )
  if (name === 'aembit_mcp_gateway') {
    cpSync(join(root, 'installer/host/libexec'), join(target, 'libexec'), { recursive: true })
    for (const each of ['grafana', 'prometheus'])
      cpSync(join(root, 'etc', each), join(target, 'monitoring', each), { recursive: true })
  }
  return packages
}

function pack(product: Application, arch: Architecture, bom: BillOfMaterials): string[] {
  const name = bundleName(product, arch, version)
  const folder = join(out, name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const packages = new Map<string, LockedPackage>()
  const carried = products[product]
  for (const application of carried) {
    for (const each of stageApplication(application, join(folder, 'applications', application))) {
      packages.set(each.path, each)
    }
  }
  const runtime = runtimeFolder(root, lock, arch, join(root, 'node_modules/.cache/node-runtimes'))
  stageRuntime(runtime, join(folder, 'runtime'))
  const node = lock.get(`node_modules/node-linux-${arch}`)

  // The brain of the installer runs on the bundled runtime; it needs nothing beyond what shared does.
  const host = lock.closure(stageSources(root, ['installer/host', 'shared'], join(folder, 'host')))
  stagePackages(root, host, join(folder, 'host'))
  writeFileSync(
    join(folder, 'host/package.json'),
    `${JSON.stringify({ private: true, type: 'module', version })}\n`,
  )
  for (const each of host) packages.set(each.path, each)

  for (const script of ['install', 'uninstall'])
    cpSync(join(root, 'installer/host', script), join(folder, script))
  for (const each of ['wrapper.sh', 'install', 'uninstall', 'libexec']) {
    rmSync(join(folder, 'host/installer/host', each), { recursive: true })
  }
  cpSync(join(root, 'etc/systemd'), join(folder, 'systemd'), { recursive: true })
  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
  const folders = [...packages.values()].map((packaged) => ({ folder: join(root, packaged.path), packaged }))
  writeFileSync(join(folder, 'NOTICES.txt'), notices([...folders, { folder: runtime, packaged: node }]))
  const sbom = billOfMaterials(bom, { name: product, version, packages: [...packages.values(), node] })
  writeFileSync(join(folder, 'sbom.cdx.json'), sbom)
  writeFileSync(
    join(folder, 'RELEASE'),
    `PRODUCT=${product}\nAPPLICATIONS="${[...carried].reverse().join(' ')}"\nVERSION=${version}\nARCH=${arch}\nCOMMIT=${commit}\nNODE=${node.version}\n`,
  )
  const files = filesBelow(folder)
  writeFileSync(join(folder, 'SHA256SUMS'), sums(folder, files))
  const programs = new Set(files.filter((path) => /^(un)?install$|\/(bin|libexec)\/[^/]+$/.test(path)))
  setModes(folder, programs)
  archive(folder, `${folder}.tar.gz`, epoch)
  cpSync(join(folder, 'sbom.cdx.json'), `${folder}.cdx.json`)
  rmSync(folder, { recursive: true })
  return [`${name}.tar.gz`, `${name}.cdx.json`]
}

mkdirSync(out, { recursive: true })
const made = choose(values.product, Object.keys(products) as Application[], 'product').flatMap((product) =>
  choose(values.arch, architectures, 'architecture').flatMap((arch) => pack(product, arch, whole)),
)
writeFileSync(join(out, 'SHA256SUMS'), sums(out, made.sort()))
process.stdout.write(readFileSync(join(out, 'SHA256SUMS'), 'utf8'))
