import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { StdioServer } from '../../shared/config/stdio-servers.ts'

export interface Launch {
  readonly argv: readonly [string, ...string[]]
  readonly env: Readonly<Record<string, string>>
}

const plainPath = '/usr/local/bin:/usr/bin:/bin'
/** Installed, it is compiled as we are. */
const confine = fileURLToPath(new URL(`confine${extname(import.meta.url)}`, import.meta.url))

/**
 * How a server's process is started: limits by prlimit(1), an end with ours by setpriv(1), which unshare(1) hands on
 * to the process table of its own, and no privilege to gain. All of util-linux, none of it a shell.
 */
export function launchOf(
  server: StdioServer,
  credential: string | undefined,
  hidden: readonly string[],
): Launch {
  const { command, args, cwd, sandbox, memoryMiB, openFiles } = server
  const limited = [
    '/usr/bin/prlimit',
    `--data=${memoryMiB * 1024 * 1024}`,
    `--nofile=${openFiles}`,
    '--core=0',
    '--',
    command,
    ...args,
  ] as const
  const env: Record<string, string> = { PATH: plainPath, HOME: cwd, LANG: 'C.UTF-8', ...server.env }
  if (server.credential && credential !== undefined) env[server.credential.env] = credential
  if (sandbox === 'none') {
    return { argv: ['/usr/bin/setpriv', '--no-new-privs', '--pdeathsig', 'KILL', '--', ...limited], env }
  }
  const namespaces = [
    '--user',
    '--map-root-user',
    '--mount',
    '--pid',
    '--ipc',
    '--fork',
    '--kill-child',
    '--mount-proc',
  ]
  const inside = [process.execPath, confine, JSON.stringify(hidden), ...limited]
  const ended = ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '--'] as const
  return { argv: [...ended, '/usr/bin/unshare', ...namespaces, '--', ...inside], env }
}
