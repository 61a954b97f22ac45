import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const packages = ['systemd', 'systemd-sysv', 'dbus', 'iproute2', 'procps', 'ca-certificates']

/** A Debian of this suite below `cache`, made once by debootstrap (about 45 s). */
export function debian(suite: string, cache: string): string {
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
