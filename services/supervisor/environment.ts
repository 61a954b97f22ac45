import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import type { Env, EnvResult, Problem } from '../../shared/config/env.ts'
import { type GatewayConfig, parseGatewayEnv } from '../../shared/config/gateway.ts'

/**
 * The configuration as it stands now: the process environment, and over it the file of AEMBIT_ENV_FILE, which is
 * what an edit and a reload change. A certificate that has ended at `now` is a problem;
 * null: it is none.
 */
export function readConfiguration(env: Env, now: number | null = Date.now()): EnvResult<GatewayConfig> {
  const file = readEnvFile(env.AEMBIT_ENV_FILE)
  return 'problems' in file ? file : parseGatewayEnv({ ...env, ...file.ok }, now)
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

/**
 * What children inherit: how Node.js and the C library find time zone, locale, authorities and proxies. Settings go by
 * IPC; sockets of systemd, credentials and whatever else was in the operator's environment stay here.
 */
const inherited =
  /^(PATH|LANG|LC_\w+|TZ|TZDIR|TMPDIR|NODE_ENV|NODE_OPTIONS|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)|(HTTPS?|NO|ALL)_PROXY)$/i

export const childEnvironment = (env: Env): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([key]) => inherited.test(key)))

/**
 * Somebody's code is loaded into this process and those it starts (NODE_OPTIONS): an agent that watches programs, a
 * test runner. A child that may read its own files alone could not start with it.
 */
export const isInstrumented = (env: Env): boolean =>
  /(^|[\s"])(-r|--require|--import|--(experimental-)?loader)\b/.test(env.NODE_OPTIONS ?? '')
