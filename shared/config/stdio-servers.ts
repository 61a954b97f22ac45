import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { dirname, isAbsolute, resolve } from 'node:path'
import { parse } from 'yaml'
import { z } from 'zod'
import type { Problem } from './env.ts'

/**
 * The local MCP servers that a gateway may start: named by the operator of its machine in a file of that machine. A
 * control plane refers to them by name alone (`url: stdio:<name>`): a command that came from elsewhere would be remote
 * code execution.
 */
const environmentName = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/
const absolute = z.string().refine((path) => isAbsolute(path), 'is not an absolute path')

const definition = z.strictObject({
  /** Started as it is, without a shell and without a search in PATH. */
  command: absolute,
  args: z.array(z.string().max(4096)).max(100).default([]),
  cwd: absolute.default('/'),
  /** All of its environment besides PATH, HOME and LANG; a value can be kept in a file of its own. */
  env: z
    .record(
      z.string().regex(environmentName, 'is no name of a variable'),
      z.union([z.string().max(8192), z.strictObject({ file: z.string().min(1) })]),
    )
    .default({}),
  /**
   * The variable that gets the person's credential; absent: the server is given none. `header` is the one that the
   * credential provider puts it into; of Authorization the scheme is taken off.
   */
  credential: z
    .strictObject({
      env: z.string().regex(environmentName, 'is no name of a variable'),
      header: z.string().toLowerCase().default('authorization'),
    })
    .optional(),
  /** `namespaces`: own process table, the gateway's folders out of sight. */
  sandbox: z.enum(['namespaces', 'none']).default('namespaces'),
  /** Processes of this server at once: one per session of a person. */
  maxProcesses: z.number().int().min(1).max(1000).default(20),
  /** Data memory of one process. */
  memoryMiB: z.number().int().min(16).max(65_536).default(1024),
  openFiles: z.number().int().min(16).max(65_536).default(1024),
  /** Seconds without a request after which a process is ended. */
  idleSecs: z.number().int().min(10).max(86_400).default(900),
})

const file = z.strictObject({
  servers: z.record(
    z
      .string()
      .regex(
        /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/,
        'is no name, use up to 63 letters, digits, "-", "_" and "."',
      ),
    definition,
  ),
})

export interface StdioServer extends Readonly<Omit<z.infer<typeof definition>, 'env'>> {
  readonly name: string
  /** With the contents of files in place. Holds secrets: never logged. */
  readonly env: Readonly<Record<string, string>>
}

const key = 'AEMBIT_STDIO_SERVERS_PATH'

/** Reads the file and everything that it names. Every problem at once; none of them holds a value of `env`. */
export function readStdioServers(path: string): { ok: readonly StdioServer[] } | { problems: Problem[] } {
  const problems: Problem[] = []
  const tell = (message: string): void => void problems.push({ key, message })
  const unsafe = trusted(path)
  if (unsafe) return { problems: [{ key, message: unsafe }] }
  let parsed: ReturnType<typeof file.safeParse>
  try {
    parsed = file.safeParse(parse(readFileSync(path, 'utf8')))
  } catch (error) {
    return { problems: [{ key, message: `${path} is no YAML: ${firstLine(error)}` }] }
  }
  if (!parsed.success) {
    for (const { path: at, message } of parsed.error.issues)
      tell(`${path}: ${at.join('.') || 'the file'}: ${message}`)
    return { problems }
  }
  const servers = Object.entries(parsed.data.servers).map(([name, { env, ...rest }]): StdioServer => {
    const where = `${path}: servers.${name}`
    const command = trusted(rest.command) ?? executable(rest.command)
    if (command) tell(`${where}.command: ${command}`)
    if (!isFolder(rest.cwd)) tell(`${where}.cwd: ${rest.cwd} is no folder`)
    if (rest.credential && Object.hasOwn(env, rest.credential.env)) {
      tell(`${where}.credential.env: ${rest.credential.env} is set in env too, remove it there`)
    }
    const values: Record<string, string> = {}
    for (const [variable, value] of Object.entries(env)) {
      if (typeof value === 'string') values[variable] = value
      else values[variable] = readSecret(resolve(dirname(path), value.file), `${where}.env.${variable}`)
    }
    return { ...rest, name, env: values }
  })
  return problems.length > 0 ? { problems } : { ok: servers }

  function readSecret(secretPath: string, where: string): string {
    const unsafeSecret = trusted(secretPath)
    if (unsafeSecret) tell(`${where}: ${unsafeSecret}`)
    else {
      try {
        return readFileSync(secretPath, 'utf8').replace(/\r?\n$/, '')
      } catch (error) {
        tell(`${where}: ${secretPath} can not be read (${codeOf(error)})`)
      }
    }
    return ''
  }
}

/** Why a file must not be believed: who can write it decides what runs here. */
function trusted(path: string): string | undefined {
  if (!isAbsolute(path)) return `${path} is not an absolute path`
  try {
    for (let at = path; ; at = dirname(at)) {
      const { uid, mode } = statSync(at)
      // A sticky folder (/tmp) lets nobody replace another's file.
      const others = (mode & 0o022) !== 0 && (at === path || (mode & 0o1000) === 0)
      if (others) return `${at} can be written by others; chmod go-w it`
      if (uid !== 0 && uid !== process.getuid?.()) {
        return `${at} belongs to user ${uid}; it must belong to root or to the gateway's user`
      }
      if (at === dirname(at)) return undefined
    }
  } catch (error) {
    return `${path} can not be read (${codeOf(error)})`
  }
}

function executable(path: string): string | undefined {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile() ? undefined : `${path} is no program`
  } catch (error) {
    return `${path} can not be run (${codeOf(error)})`
  }
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error)
const firstLine = (error: unknown): string =>
  String(error instanceof Error ? error.message : error).split('\n')[0] ?? ''
