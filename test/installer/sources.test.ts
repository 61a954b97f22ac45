import { spawnSync } from 'node:child_process'
import { globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { archive, setModes, sha256 } from '../../installer/pack/archive.ts'
import { Lock, stagePackages } from '../../installer/pack/dependencies.ts'
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
