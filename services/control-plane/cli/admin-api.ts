import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Agent, request } from 'undici'
import type { Env } from '../../../shared/config/env.ts'
import { Fault } from '../../../shared/faults.ts'
import { parseBase } from '../../../shared/http-client.ts'
import { environmentTable } from '../environment.ts'

/** No control plane answers, or its token can not be read. */
export class Unreachable extends Error {
  override readonly name = 'Unreachable'
}

/** The control plane says no; one sentence each. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.problems = problems
  }
}

export interface AdminApi {
  /** The JSON of a 2xx. Throws Unreachable or Refusal. */
  call(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<unknown>
  close(): Promise<void>
}

export interface AdminApiOptions {
  /** `https://gateway.example`; the local socket where absent. */
  readonly url?: string | undefined
  readonly tokenPath?: string | undefined
}

const timeoutMs = 30_000
const maxBytes = 16 << 20

/** The REST API by the control plane's own socket on this machine, or by a gateway's address. */
export function adminApi(env: Env, { url, tokenPath }: AdminApiOptions): AdminApi {
  const runtimeDir = env.AEMBIT_RUNTIME_DIR || String(environmentTable.AEMBIT_RUNTIME_DIR.fallback?.value)
  const stateDir = env.AEMBIT_STATE_DIR || String(environmentTable.AEMBIT_STATE_DIR.fallback?.value)
  const base = url ?? `unix:${join(runtimeDir, 'public.sock')}`
  const { origin, prefix, socketPath } = target(base)
  const token = readToken(tokenPath ?? join(stateDir, 'admin-token'))
  const dispatcher = new Agent({
    connect: { timeout: timeoutMs, ...(socketPath === null ? {} : { socketPath }) },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    maxResponseSize: maxBytes,
  })

  const call: AdminApi['call'] = async (method, path, body) => {
    let status: number
    let answered: string
    try {
      const response = await request(`${origin}${prefix}/api/v1/${path}`, {
        dispatcher,
        method,
        headers: {
          accept: 'application/json',
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        body: body === undefined ? null : JSON.stringify(body),
      })
      status = response.statusCode
      answered = await response.body.text()
    } catch (error) {
      throw new Unreachable(away(base, error as NodeJS.ErrnoException))
    }
    let value: unknown
    try {
      value = JSON.parse(answered)
    } catch {
      throw new Unreachable(
        `${base} answered ${status} with something that is not JSON; is it a control plane?`,
      )
    }
    if (status >= 200 && status < 300) return value
    const { message, problems } = (value ?? {}) as { message?: unknown; problems?: unknown }
    if (status === 401 || status === 429) {
      throw new Refusal([
        `${status} ${String(message)} (token of ${tokenPath ?? join(stateDir, 'admin-token')}; name another by --token-path)`,
      ])
    }
    throw new Refusal(
      Array.isArray(problems) && problems.length > 0
        ? problems.map(String)
        : [typeof message === 'string' ? message : `${base} answered ${status} and no reason`],
    )
  }
  return { call, close: () => dispatcher.destroy() }
}

function target(base: string): ReturnType<typeof parseBase> {
  try {
    return parseBase(base)
  } catch (error) {
    throw new Refusal([`--url: ${Fault.from(error).detail ?? 'is no address'}`])
  }
}

function readToken(path: string): string {
  try {
    const token = readFileSync(path, 'utf8').trim()
    if (/^[\x21-\x7e]{1,512}$/.test(token)) return token
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const what =
      code === 'EACCES'
        ? 'may be read by root and the control plane alone: use sudo'
        : `can not be read (${code}); has the control plane been started, and is AEMBIT_STATE_DIR the same?`
    throw new Unreachable(`the administrator token ${path} ${what} (or --token-path <path>)`)
  }
  throw new Unreachable(`${path} holds no token`)
}

function away(base: string, error: NodeJS.ErrnoException): string {
  if (base.startsWith('unix:') && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED')) {
    return `no control plane runs on ${base.slice(5)}; is the service started, and AEMBIT_RUNTIME_DIR the same?`
  }
  if (error.code === 'EACCES') return `${base.slice(5)} may be opened by root and the gateway alone: use sudo`
  return `${base} does not answer: ${error.message || error.code || error.name}`
}
