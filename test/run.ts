import { spawn } from 'node:child_process'
import { globSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { readCitations, runProblems } from './requirements/citations.ts'
import { type Proofs, readProofs } from './requirements/tap.ts'

/**
 * `npm test [-- <file or folder> …]`: runs tap over every `*.test.ts` but those of `test/system`, which need Debian
 * packages (`npm run test:acme`), shows each file's verdict and what failed in
 * it, and closes with `N passed, N failed`, counted by tap. A requirement that one of these files cites and that was not
 * shown counts as failed. Exit code 1 where something failed or nothing ran.
 */
const root = fileURLToPath(new URL('..', import.meta.url))
const tapBin = join(root, 'node_modules/.bin/tap')
const jobs = 2
const fileTimeoutSecs = 180

const env = {
  ...process.env,
  PATH: `${join(root, 'node_modules/.bin')}${delimiter}${process.env.PATH ?? ''}`,
}

function testFiles(wanted: readonly string[]): string[] {
  const patterns = wanted.length === 0 ? ['test'] : wanted
  // What needs Debian packages runs when it is named.
  const named = (path: string): boolean => wanted.length > 0 || !path.startsWith('test/system/')
  const found = patterns.flatMap((path) =>
    statSync(join(root, path), { throwIfNoEntry: false })?.isDirectory()
      ? globSync(`${path.replace(/\/$/, '')}/**/*.test.ts`, { cwd: root })
      : globSync(path, { cwd: root }),
  )
  return [...new Set(found)].filter(named).sort()
}

/**
 * tap comes built with its TypeScript plugin, which Node's own type stripping replaces and TypeScript 7 breaks.
 * Left to itself tap rebuilds on the first run but that run still loads the old plugin and fails: so build first.
 */
async function buildTap(): Promise<void> {
  const require = createRequire(join(root, 'node_modules/tap/package.json'))
  const built = join(dirname(require.resolve('@tapjs/test/package.json')), 'test-built/dist/esm/index.js')
  const stale = (): boolean => {
    try {
      return readFileSync(built, 'utf8').includes('@tapjs/typescript')
    } catch {
      return true
    }
  }
  if (!stale()) return
  const child = spawn(process.execPath, [tapBin, 'build'], { cwd: root, env, stdio: 'inherit' })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  if (code !== 0 || stale()) throw new Error('`tap build` failed')
}

/** What oidc-provider says of the identity providers that tests stand in for: of ours it has nothing to say. */
const standIns = /^oidc-provider WARNING: (a )?quick start /

/** Shows a file that passed as one line and a file that failed whole; returns tap's own totals. */
async function runTap(
  files: readonly string[],
): Promise<{ passed: number; failed: number; code: number; proofs: Proofs }> {
  const args = ['--reporter=tap', `--jobs=${jobs}`, `--timeout=${fileTimeoutSecs}`, '--no-color', ...files]
  const child = spawn(process.execPath, [tapBin, ...args], {
    cwd: root,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (!standIns.test(line)) console.error(line)
  })
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve))
  let passed = 0
  let failed = 0
  let block: string[] = []
  const proofs = readProofs()
  for await (const line of createInterface({ input: child.stdout })) {
    proofs.line(line)
    const totals = /^# \{ total: \d+(?:, pass: (\d+))?(?:, fail: (\d+))?/.exec(line)
    if (totals) {
      passed = Number(totals[1] ?? 0)
      failed = Number(totals[2] ?? 0)
    } else if (line.startsWith('ok ')) {
      console.log(line)
      block = []
    } else if (line.startsWith('# Subtest: ')) {
      block = [line]
    } else {
      block.push(line)
      if (line.startsWith('not ok ')) {
        console.log(block.join('\n'))
        block = []
      }
    }
  }
  const code = (await closed) ?? 1
  const rest = block.filter((line) => line.trim() !== '' && line !== '# No coverage generated')
  if (rest.length > 0) console.log(rest.join('\n'))
  return { passed, failed, code, proofs: proofs.end() }
}

const files = testFiles(process.argv.slice(2))
if (files.length === 0) {
  console.log('no test file matches\n0 passed, 0 failed')
  process.exit(1)
}
await buildTap()
const { passed, failed, code, proofs } = await runTap(files)
const unproved = runProblems(readCitations(root), files, proofs)
if (unproved.length > 0) console.log(`requirements that were not shown:\n${unproved.join('\n')}`)
console.log(`${passed} passed, ${failed + unproved.length} failed`)
process.exitCode = code !== 0 || failed + unproved.length > 0 || passed === 0 ? 1 : 0
