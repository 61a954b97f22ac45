import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const packages = [
  'systemd',
  'systemd-sysv',
  'dbus',
  'iproute2',
  'procps',
  'ca-certificates',
  'busybox',
  'mksh',
]

/** What debootstrap needs beyond the name of a suite. Debian's own it knows. */
interface Origin {
  readonly mirror?: string
  /** The script of debootstrap that fits, where it may not know the suite yet. */
  readonly script?: string
  readonly components?: string
  readonly keyring?: string
}

const ubuntu: Origin = {
  mirror: 'http://archive.ubuntu.com/ubuntu',
  script: '/usr/share/debootstrap/scripts/gutsy',
  components: 'main,universe',
  keyring: '/usr/share/keyrings/ubuntu-archive-keyring.gpg',
}
const origins: Readonly<Record<string, Origin>> = { bookworm: {}, trixie: {}, jammy: ubuntu, noble: ubuntu }
export const suites = Object.keys(origins)

/** A Debian or Ubuntu of this suite below `cache`, made once by debootstrap (about 45 s). */
export function rootfs(suite: string, cache: string): string {
  const origin = origins[suite]
  if (!origin) throw new Error(`${suite} is none of ${suites.join(', ')}`)
  const target = join(cache, `rootfs-${suite}`)
  if (existsSync(target)) return target
  mkdirSync(cache, { recursive: true })
  const work = join(cache, `.rootfs-${suite}.${process.pid}`)
  rmSync(work, { recursive: true, force: true })
  const { mirror, script, components, keyring } = origin
  const flags = [
    '--variant=minbase',
    `--include=${packages.join(',')}`,
    ...(components ? [`--components=${components}`] : []),
    ...(keyring ? [`--keyring=${keyring}`] : []),
  ]
  const args = [...flags, suite, work, ...(mirror ? [mirror] : []), ...(script ? [script] : [])]
  try {
    execFileSync('debootstrap', args, { stdio: ['ignore', 'ignore', 'pipe'], maxBuffer: 64 << 20 })
    rmSync(join(work, 'var/cache/apt'), { recursive: true, force: true })
    writeFileSync(join(work, 'etc/hosts'), '127.0.0.1 localhost testbox\n::1 localhost\n')
    writeFileSync(join(work, 'etc/hostname'), 'testbox\n')
    renameSync(work, target)
  } catch (error) {
    rmSync(work, { recursive: true, force: true })
    throw error
  }
  return target
}

export const shells = ['dash', 'bash', 'busybox', 'mksh'] as const
export type Shell = (typeof shells)[number]

/** Makes another shell the machine's /bin/sh: distributions differ in which it is. */
export function setShell(root: string, shell: Shell): void {
  const bin = join(root, 'usr/bin')
  if (!readdirSync(bin).includes(shell)) throw new Error(`there is no ${shell} in ${bin}`)
  rmSync(join(bin, 'sh'))
  symlinkSync(shell, join(bin, 'sh'))
}
