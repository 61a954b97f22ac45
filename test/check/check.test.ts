import t from 'tap'
import { borderViolations } from './borders.ts'
import { houseViolations } from './house.ts'
import type { SourceFile } from './tree.ts'

const file = (path: string, text: string): SourceFile => ({ path, text, lines: text.split('\n') })
const readme = (room: string): SourceFile => file(`${room}/README.md`, '# room')

t.test('import borders', async (t) => {
  const violationsOf = (path: string, specifier: string): string[] =>
    borderViolations([file(path, `const a = 1\nimport { x } from '${specifier}'\n`)])

  t.same(violationsOf('services/front/a.ts', '../../shared/log.ts'), [], 'a service imports shared')
  t.same(violationsOf('services/front/tls/a.ts', '../forward.ts'), [], 'a service imports itself')
  t.same(
    violationsOf('services/front/a.ts', '../proxy/b.ts'),
    ['services/front/a.ts:2: services/front imports shared and itself, not services/proxy'],
    'a service does not import another',
  )
  t.equal(
    violationsOf('services/front/a.ts', '../../test/rig/world.ts').length,
    1,
    'a service imports no test',
  )
  t.equal(violationsOf('shared/log.ts', '../services/front/a.ts').length, 1, 'shared imports no service')
  t.equal(
    violationsOf('shared/faults.ts', './log.ts').length,
    1,
    'a low layer of shared imports no higher one',
  )
  t.same(
    violationsOf('shared/policy.ts', './wire/snapshot.ts'),
    [],
    'a high layer of shared imports a lower one',
  )
  t.equal(
    violationsOf('installer/quickstart/a.ts', '../../services/front/a.ts').length,
    1,
    'installer imports no service',
  )
  t.same(
    violationsOf('test/front/a.test.ts', '../../services/front/a.ts'),
    [],
    'a test may import what it tests',
  )

  const dynamic = file('services/sync/a.ts', "const m = await import('../proxy/b.ts')\n")
  t.equal(borderViolations([dynamic]).length, 1, 'a dynamic import counts too')
})

t.test('cycles between rooms', async (t) => {
  const tree = [
    file('services/proxy/auth/a.ts', "import { b } from '../mcp/b.ts'\n"),
    file('services/proxy/mcp/b.ts', "import { a } from '../auth/a.ts'\n"),
    file('services/proxy/mcp/c.ts', "import { b } from './b.ts'\n"),
  ]
  const found = borderViolations(tree)
  t.equal(found.length, 1)
  t.match(found[0], /^services\/proxy\/mcp\/b\.ts:1: closes a cycle of rooms: /)
  t.same(borderViolations(tree.slice(0, 1)), [], 'one direction is no cycle')
})

t.test('the house', async (t) => {
  const room = readme('services/front')
  t.same(houseViolations([room, file('services/front/a.ts', 'x\n'.repeat(400))]), [])
  t.same(houseViolations([room, file('services/front/a.ts', 'x\n'.repeat(401))]), [
    'services/front/a.ts:401: 401 lines, more than 400 are refused',
  ])
  t.match(houseViolations([room, file('services/front/main.ts', 'x\n'.repeat(81))]), [/at most 80/])
  t.same(houseViolations([file('services/front/a.ts', '')]), [
    'services/front/README.md:1: this room has no README.md',
  ])
  t.match(houseViolations([file('extra/a.md', '')]), [/no top-level folder extra\//])
  t.match(houseViolations([file('package-lock.json', '{\n  "resolved": "x"')]), [/^package-lock\.json:2: /])
  t.match(houseViolations([file('docs/a.md', `see ${'/home'}/ann/notes`)]), [
    /^docs\/a\.md:1: the path of one machine/,
  ])
  t.same(houseViolations([file('docs/a.md', `https://x.test${'/home'}/ann and .${'/work'}/x`)]), [])
  t.match(houseViolations([room, file('services/front/a.ts', `// ${'TODO'} later`)]), [
    /a promise instead of code/,
  ])
})
