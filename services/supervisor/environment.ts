import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import type { Env, EnvResult, Problem } from '../../shared/config/env.ts'
import { type GatewayConfig, parseGatewayEnv } from '../../shared/config/gateway.ts'

/**
 * The configuration as it stands now: the process environment, and over it the file of AEMBIT_ENV_FILE, which is
 * what an edit and a reload change.
 */
export function readConfiguration(env: Env): EnvResult<GatewayConfig> {
  const file = readEnvFile(env.AEMBIT_ENV_FILE)
  return 'problems' in file ? file : parseGatewayEnv({ ...env, ...file.ok })
}

function readEnvFile(path: string | undefined): EnvResult<Env> {
  if (!path) return { ok: {} }
  try {
    return { ok: parseEnv(readFileSync(path, 'utf8')) }
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error)
    return {
      problems: [
        { key: 'AEMBIT_ENV_FILE', message: `${path} can not be read (${reason})` } satisfies Problem,
      ],
    }
  }
}

/** Variables that are this process's own affair: the sockets of systemd and our settings, which go by IPC. */
const withheld = /^(AEMBIT_|LISTEN_|NOTIFY_SOCKET$|WATCHDOG_)/

export const childEnvironment = (env: Env): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([key]) => !withheld.test(key)))
