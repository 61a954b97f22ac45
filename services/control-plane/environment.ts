import { join } from 'node:path'
import { type Env, type EnvResult, optional, readEnv, required } from '../../shared/config/env.ts'
import { absolutePath, oneOf } from '../../shared/config/parsers.ts'
import { logLevelNames } from '../../shared/log.ts'

export interface Environment {
  readonly configPath: string
  readonly stateDir: string
  readonly runtimeDir: string
  readonly logLevel: string
  /** Base64 of 32 bytes; in the state folder unless told. */
  readonly masterKeyPath: string
}

export const environmentTable = {
  AEMBIT_CONFIG_PATH: required(absolutePath, 'the YAML configuration'),
  AEMBIT_STATE_DIR: optional(absolutePath, '/var/lib/aembit_control_plane', 'database, keys, admin token'),
  AEMBIT_RUNTIME_DIR: optional(absolutePath, '/run/aembit_control_plane', 'public.sock and machine.sock'),
  AEMBIT_LOG_LEVEL: optional(oneOf(logLevelNames), 'info', 'how much is logged'),
  AEMBIT_MASTER_KEY_PATH: optional(absolutePath, null, 'what the database is sealed under'),
} as const

/** Reads the environment; touches no file. */
export function readEnvironment(env: Env): EnvResult<Environment> {
  const read = readEnv(env, environmentTable)
  if ('problems' in read) return read
  const { ok } = read
  return {
    ok: {
      configPath: ok.AEMBIT_CONFIG_PATH,
      stateDir: ok.AEMBIT_STATE_DIR,
      runtimeDir: ok.AEMBIT_RUNTIME_DIR,
      logLevel: ok.AEMBIT_LOG_LEVEL,
      masterKeyPath: ok.AEMBIT_MASTER_KEY_PATH ?? join(ok.AEMBIT_STATE_DIR, 'master-key'),
    },
  }
}
