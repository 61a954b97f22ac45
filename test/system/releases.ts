import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, globSync, lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** The real tarball of the gateway for this machine, made by the real command and unpacked to `to`. */
export function makeRelease(to: string): void {
  rmSync(to, { recursive: true, force: true })
  mkdirSync(to, { recursive: true })
  const out = join(to, 'dist')
  const pack = [
    join(root, 'installer/pack/main.ts'),
    '--product',
    'aembit_mcp_gateway',
    '--arch',
    process.arch,
  ]
  execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', ...pack, '--out', out], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const [tarball = ''] = globSync('*.tar.gz', { cwd: out })
  execFileSync('tar', ['-xzf', join(out, tarball), '-C', to, '--strip-components=1'])
  rmSync(out, { recursive: true })
}

/** Another release made of one: another version, and whatever `change` does to its files. */
export function varyRelease(
  from: string,
  to: string,
  version: string,
  change: (folder: string) => void,
): void {
  rmSync(to, { recursive: true, force: true })
  cpSync(from, to, { recursive: true })
  const rewrite = (path: string, edit: (text: string) => string): void =>
    writeFileSync(join(to, path), edit(readFileSync(join(to, path), 'utf8')))
  rewrite('RELEASE', (text) => text.replace(/^VERSION=.*$/m, `VERSION=${version}`))
  for (const manifest of globSync('applications/*/package.json', { cwd: to })) {
    rewrite(manifest, (text) => text.replace(/"version": "[^"]*"/, `"version": "${version}"`))
  }
  change(to)
  const files = globSync('**', { cwd: to })
    .filter((path) => path !== 'SHA256SUMS' && lstatSync(join(to, path)).isFile())
    .sort()
  const digest = (path: string): string =>
    createHash('sha256')
      .update(readFileSync(join(to, path)))
      .digest('hex')
  writeFileSync(join(to, 'SHA256SUMS'), files.map((path) => `${digest(path)}  ${path}\n`).join(''))
}

/** Puts a line at the top of one application's main program. */
export const sabotage =
  (application: string, service: string, line: string) =>
  (folder: string): void => {
    const path = join(folder, 'applications', application, 'services', service, 'main.js')
    writeFileSync(path, `${line}\n${readFileSync(path, 'utf8')}`)
  }
