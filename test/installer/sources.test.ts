import { spawnSync } from 'node:child_process'
import { globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { archive, setModes, sha256 } from '../../installer/pack/archive.ts'
import { Lock, stagePackages } from '../../installer/pack/dependencies.ts'
import { billOfMaterials } from '../../installer/pack/documents.ts'
import { stageSources, toJavaScript } from '../../installer/pack/sources.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const dir = mkdtempSync(join(tmpdir(), 'pack-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))

t.test('types become blanks, lines stay, imports name JavaScript', async (t) => {
  const source =
    "import { a } from './a.ts'\nconst b: number = a as number // './x.ts'\nexport * from '../b.ts'\n"
  const code = toJavaScript(source)
  t.match(code, "import { a } from './a.js'\n")
  t.match(code, "export * from '../b.js'\n")
  t.notMatch(code, 'number')
  t.equal(code.split('\n').length, source.split('\n').length)
})

t.test(
  'what is packed of a service runs without type stripping and with its own packages alone',
  async (t) => {
    const target = join(dir, 'app')
    const packages = stageSources(root, ['services/front', 'shared'], target)
    stagePackages(root, new Lock(root).closure(packages), target)
    t.equal(globSync('**/*.ts', { cwd: target }).length, 0)
    // Started by hand it tells who has to start it: every import was found before that.
    writeFileSync(join(target, 'package.json'), '{"type":"module","version":"1.2.3"}')
    const { status, stderr } = spawnSync(process.execPath, [
      '--no-strip-types',
      join(target, 'services/front/main.js'),
    ])
    t.match(String(stderr), /is started by the supervisor/)
    t.equal(status, 2)
  },
)

t.test('a package that is not in the lock file is refused', async (t) => {
  t.throws(() => new Lock(root).closure(['left-pad-of-nobody']), /package-lock.json does not have/)
  t.ok(new Lock(root).closure(['fastify']).every(({ name }) => !name.startsWith('@types/')))
})

t.test('a bill of materials says nothing of when and with which npm it was made', async (t) => {
  const a = { 'bom-ref': 'a@1', name: 'a', version: '1' }
  const bom = (more: object, metadata: object, components: object[] = [a]) => ({
    ...more,
    metadata: { ...metadata, component: { 'bom-ref': 'own@1' } },
    components: components as (typeof a)[],
    dependencies: [{ ref: 'own@1', dependsOn: ['a@1', 'b@1'] }],
  })
  const packages = [{ path: 'node_modules/a', name: 'a', version: '1', integrity: 'x', license: 'MIT' }]
  const of = (whole: ReturnType<typeof bom>): string =>
    billOfMaterials(whole, { name: 'product', version: '9', packages })
  const twice = [{ ...a, properties: [{ name: 'cdx:npm:package:path', value: 'node_modules/a' }] }, a]
  const one = of(
    bom({ serialNumber: 'urn:uuid:1' }, { timestamp: '2026', tools: [{ version: '10' }] }, twice),
  )
  t.equal(one, of(bom({ serialNumber: 'urn:uuid:2' }, { timestamp: '2027', tools: [{ version: '11' }] })))
  t.match(JSON.parse(one), {
    metadata: { component: { name: 'product', version: '9' } },
    dependencies: [{ ref: 'own@1', dependsOn: ['a@1'] }],
  })
})

t.test('the same content gives the same archive, whoever packs it and when', async (t) => {
  const digests = ['one', 'two'].map((name) => {
    const folder = join(dir, name, 'bundle')
    stageSources(root, ['shared'], folder)
    setModes(folder, new Set())
    const to = join(dir, `${name}.tar.gz`)
    archive(folder, to, 1_700_000_000)
    return sha256(to)
  })
  t.equal(digests[0], digests[1])
})
