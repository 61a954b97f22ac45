import { hostname } from 'node:os'
import pino from 'pino'

export type Logger = pino.Logger

/** Our level names (surface of AEMBIT_LOG_LEVEL of both the gateway and the controller) as pino's. */
const levels: Record<string, pino.LevelWithSilent> = {
  trace: 'trace',
  verbose: 'trace',
  debug: 'debug',
  info: 'info',
  information: 'info',
  warn: 'warn',
  warning: 'warn',
  error: 'error',
  fatal: 'fatal',
  off: 'silent',
}

export const logLevelNames = Object.keys(levels)

/** Keys whose values never reach a log line, at any of the depths we log at. */
const secretKeys = [
  'authorization',
  'cookie',
  'password',
  'passwordHash',
  'clientSecret',
  'client_secret',
  'accessToken',
  'access_token',
  'refreshToken',
  'refresh_token',
  'apiKey',
  'code_verifier',
  'deviceCode',
]
const paths = secretKeys.flatMap((key) => [key, `*.${key}`, `*.*.${key}`])

/** JSON lines on stdout: `level` as a word, `time` ISO 8601 UTC, `component` the process's name. */
export function createLogger(component: string, level = 'info'): Logger {
  return pino({
    level: levels[level.toLowerCase()] ?? 'info',
    base: { component, host: hostname(), pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: { paths, censor: '•••' },
  })
}
