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

export const suites = ['bookworm', 'trixie']

/** A Debian of this suite below `cache`, made once by debootstrap (about 45 s). */
export function rootfs(suite: string, cache: string): string {
  if (!suites.includes(suite)) throw new Error(`${suite} is none of ${suites.join(', ')}`)
  const target = join(cache, `rootfs-${suite}`)
  if (existsSync(target)) return target
  mkdirSync(cache, { recursive: true })
  const work = join(cache, `.rootfs-${suite}.${process.pid}`)
  rmSync(work, { recursive: true, force: true })
  const args = ['--variant=minbase', `--include=${packages.join(',')}`, suite, work]
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
