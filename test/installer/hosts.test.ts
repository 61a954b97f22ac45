import { globSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** What the oldest supported hosts have: RHEL 9 (glibc 2.34), Amazon Linux 2023 (2.34), Ubuntu 22.04 (2.35; systemd 249). */
const oldestGlibc = [2, 34] as const
const oldestSystemd = 249

/** The version of systemd that knows each directive of our units; systemd.directives(7) and its NEWS. */
const since: Readonly<Record<string, number>> = {
  LoadCredential: 247,
  PrivateIPC: 248,
  ProcSubset: 247,
  ProtectProc: 247,
  LogNamespace: 245,
  WatchdogSignal: 246,
  ProtectClock: 245,
  ProtectKernelLogs: 244,
  OOMPolicy: 243,
  ProtectHostname: 242,
  RestrictSUIDSGID: 242,
}
/** Those that are older than every host that we are asked about. */
const old = new Set(
  `After AmbientCapabilities Backlog CapabilityBoundingSet Description DevicePolicy DirectoryMode Environment EnvironmentFile
  ExecReload ExecStart ExecStartPost ExecStop ExecStopPost FileDescriptorName Group KeyringMode KillMode LimitCORE LimitNOFILE
  ListenStream LockPersonality MemoryHigh MemoryMax NoDelay NoNewPrivileges NotifyAccess OnCalendar PrivateDevices PrivateNetwork
  PrivateTmp PrivateUsers ProtectControlGroups ProtectHome ProtectKernelModules ProtectKernelTunables ProtectSystem RemoveIPC
  RandomizedDelaySec RemoveOnStop Requires Restart RestartPreventExitStatus RestartSec RestrictAddressFamilies RestrictNamespaces
  RestrictRealtime RuntimeDirectory RuntimeDirectoryMode RuntimeDirectoryPreserve Service SocketGroup SocketMode SocketUser
  Sockets StandardError StandardOutput StartLimitBurst StartLimitIntervalSec StateDirectory StateDirectoryMode
  SyslogIdentifier SystemCallArchitectures SystemCallErrorNumber SystemCallFilter TasksMax TimeoutStartSec TimeoutStopSec
  TriggerLimitIntervalSec Type UMask User WantedBy Wants WatchdogSec`.split(/\s+/),
)

t.test('no directive of a unit is newer than the oldest systemd that we install on', async (t) => {
  const files = globSync('etc/systemd/{*.service,*.socket,*.path,*.timer,stdio-servers.conf}', { cwd: root })
  t.ok(files.length >= 7)
  for (const file of files) {
    const lines = readFileSync(join(root, file), 'utf8').split('\n')
    const used = new Set(lines.flatMap((line) => /^(\w+)=/.exec(line)?.[1] ?? []))
    const newer = [...used].filter((name) => (since[name] ?? (old.has(name) ? 0 : 999)) > oldestSystemd)
    t.strictSame(newer, [], basename(file))
  }
})

t.test('the runtime that is packed needs no newer C library than the oldest host has', async (t) => {
  const node = join(root, `node_modules/node-linux-${process.arch}/bin/node`)
  const text = readFileSync(node).toString('latin1')
  const wanted = [...text.matchAll(/\bGLIBC_(\d+)\.(\d+)\b/g)].map(([, major, minor]) => [
    Number(major),
    Number(minor),
  ])
  const [major = 0, minor = 0] = wanted.sort(([a = 0, b = 0], [c = 0, d = 0]) => a - c || b - d).at(-1) ?? []
  t.ok(major === oldestGlibc[0] && minor <= oldestGlibc[1], `GLIBC_${major}.${minor}`)
  t.match(readFileSync(join(root, 'installer/host/install'), 'utf8'), `needs glibc ${major}.${minor}`)
})
