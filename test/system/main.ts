import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Case } from './case.ts'
import { cases as install } from './cases/install.ts'
import { cases as restarts } from './cases/restarts.ts'
import { cases as service } from './cases/service.ts'
import { cases as stdio } from './cases/stdio.ts'
import { cases as uninstall } from './cases/uninstall.ts'
import { cases as upgrade } from './cases/upgrade.ts'
import { shells } from './rootfs.ts'
import { Scene } from './scene.ts'

/**
 * `npm run test:system [-- --only <text> --suite bookworm --short --shell dash --keep-release]`: the real tarball on a real
 * systemd. Needs root, debootstrap and systemd-nspawn. Cases run in order on one machine; closes with
 * `N passed, N failed`. `--short` runs what distributions may differ in.
 */
const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    suite: { type: 'string', default: 'bookworm' },
    short: { type: 'boolean', default: false },
    shell: { type: 'string', default: 'dash' },
    'keep-release': { type: 'boolean', default: false },
  },
})
if (process.getuid?.() !== 0) {
  console.log('test:system needs root: it boots a machine\n0 passed, 1 failed')
  process.exit(1)
}
const cache = join(fileURLToPath(new URL('../..', import.meta.url)), 'node_modules/.cache/system')
const all: readonly Case[] = [...install, ...service, ...stdio, ...upgrade, ...restarts, ...uninstall]
const shell = shells.find((each) => each === values.shell)
if (!shell) throw new Error(`--shell is one of ${shells.join(', ')}`)
const chosen = all.filter(
  ({ name, short }) =>
    (values.only ? name.includes(values.only) : !values.short || short === true) ||
    name.startsWith('install --all'),
)

let passed = 0
let failed = 0
const scene = await Scene.set(cache, { suite: values.suite, shell, repack: !values['keep-release'] })
console.log(`# ${await scene.facts()}`)
const interrupted = (): void => void scene.end().then(() => process.exit(1))
process.once('SIGINT', interrupted)
process.once('SIGTERM', interrupted)
try {
  for (const [at, { name, run }] of chosen.entries()) {
    const began = Date.now()
    const notes: string[] = []
    let error: unknown
    try {
      await run(scene, (text) => notes.push(text))
      passed++
    } catch (thrown) {
      error = thrown
      failed++
    }
    console.log(
      `${error ? 'not ok' : 'ok'} ${at + 1} - ${name} # ${((Date.now() - began) / 1000).toFixed(1)} s`,
    )
    for (const note of notes) console.log(`    ${note}`)
    if (error) console.log(String((error as Error).stack ?? error).replace(/^/gm, '    '))
  }
} finally {
  await scene.end()
}
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 || passed === 0 ? 1 : 0
