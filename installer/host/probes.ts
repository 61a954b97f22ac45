import { execFile } from 'node:child_process'
import { createServer } from 'node:net'
import type { Problem } from '../../shared/config/env.ts'
import type { ValkeySettings } from '../../shared/config/valkey-url.ts'
import { Fault } from '../../shared/faults.ts'
import { createLogger } from '../../shared/log.ts'
import { checkValkey } from '../../shared/valkey.ts'

const controllerTimeoutMs = 5_000

const run = (file: string, args: readonly string[]): Promise<string> =>
  new Promise((resolve) => {
    execFile(file, args, { timeout: 10_000 }, (error, stdout) => resolve(error ? '' : stdout))
  })

export const unitIsActive = async (unit: string): Promise<boolean> =>
  (await run('systemctl', ['show', '--property=ActiveState', '--value', unit])).trim() === 'active'

/** Is the port free here? Names who has it where the system tells. */
export async function probePort(key: string, address: string, port: number): Promise<Problem[]> {
  const server = createServer()
  const code = await new Promise<string | undefined>((resolve) => {
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    server.listen({ host: address, port, exclusive: true }, () => resolve(undefined))
  })
  await new Promise<void>((resolve) => server.close(() => resolve()))
  if (code === undefined) return []
  if (code !== 'EADDRINUSE')
    return [{ key, message: `${address} port ${port} can not be listened on (${code})` }]
  const sockets = await run('ss', ['-H', '-l', '-t', '-n', '-p', `sport = :${port}`])
  const [, name, pid] = /users:\(\("([^"]+)",pid=(\d+)/.exec(sockets) ?? []
  const who = name ? `${name} (pid ${pid})` : 'another program'
  return [{ key, message: `port ${port} is taken by ${who}; stop it, or set ${key} to another port` }]
}

/** Does the agent controller answer, and is it registered? */
export async function probeController(key: string, url: string): Promise<Problem[]> {
  try {
    const signal = AbortSignal.timeout(controllerTimeoutMs)
    const answer = await fetch(new URL('/health', url), { signal, redirect: 'error' })
    const body = (await answer.json().catch(() => ({}))) as { status?: unknown }
    if (body.status !== 'Unregistered') return []
    return [{ key, message: `the agent controller at ${url} is not registered; give it a device code first` }]
  } catch (error) {
    const cause = (error as { cause?: { code?: string } }).cause?.code ?? (error as Error).name
    return [{ key, message: `no agent controller answers at ${url} (${cause}); install and start it first` }]
  }
}

/** Does the session store take us? */
export async function probeStore(key: string, settings: ValkeySettings): Promise<Problem[]> {
  try {
    await checkValkey(settings, createLogger('install', 'off'))
    return []
  } catch (error) {
    const why = Fault.from(error).detail ?? 'it can not be asked'
    return [{ key, message: why.replace(`${key}: `, '') }]
  }
}
