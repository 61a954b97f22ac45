import { spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'

/**
 * Runs inside fresh namespaces, before the server: lays something empty over each file and folder that is not its
 * business, gives up every capability that came with the namespaces, and becomes the server.
 * Arguments: a JSON list of paths, then the program and its arguments.
 */
const [hidden = '[]', program, ...args] = process.argv.slice(2)

for (const path of JSON.parse(hidden) as string[]) {
  const folder = statSync(path, { throwIfNoEntry: false })?.isDirectory()
  if (folder === undefined) continue
  const how = folder
    ? ['-t', 'tmpfs', '-o', 'ro,nosuid,nodev,noexec,size=4k', 'none', path]
    : ['--bind', '/dev/null', path]
  const { status, stderr, error } = spawnSync('/usr/bin/mount', how, { encoding: 'utf8' })
  if (status !== 0) fail(`${path} can not be hidden: ${error?.message ?? stderr.trim()}`)
}
if (program === undefined || !process.execve) fail('there is no program to become')
const setpriv = '/usr/bin/setpriv'
const nothing = ['--no-new-privs', '--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all']
process.execve(setpriv, [setpriv, ...nothing, '--', program, ...args], process.env as Record<string, string>)

function fail(why: string): never {
  console.error(`sandbox: ${why}`)
  process.exit(70)
}
