import { chmodSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { Fault } from '../../shared/faults.ts'
import type { GatewayStatus } from './status.ts'

/** What an operator may ask. Each resolves with the lines of what was wrong; none: it was done. */
export interface Operations {
  status(): GatewayStatus
  /** undefined: there is no process of that name. */
  restart(name: string): Promise<readonly string[]> | undefined
  reload(): Promise<readonly string[]>
}

export const operatorSocketPath = (runtimeDir: string): string => join(runtimeDir, 'operator.sock')

/**
 * HTTP/1.1 and JSON on a unix socket that only the gateway's own user and root can open: `GET /v1/status`,
 * `POST /v1/restart/<process>`, `POST /v1/reload`. Throws Fault `listen.failed` where another gateway runs on it.
 */
export async function startOperator(path: string, operations: Operations): Promise<Server> {
  if (await answers(path)) {
    throw new Fault('listen.failed', {
      detail: `another gateway runs on ${path}; stop it or set AEMBIT_RUNTIME_DIR`,
    })
  }
  rmSync(path, { force: true })
  const server = createServer({ maxHeaderSize: 4096, requestTimeout: 5_000 }, (request, response) => {
    request.resume()
    void answer(operations, request, response)
  })
  server.maxConnections = 16
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(new Fault('listen.failed', { detail: error.message, cause: error })),
    )
    server.listen(path, resolve)
  })
  chmodSync(path, 0o600)
  return server
}

/** Somebody listens on this unix socket. */
export const answers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })

async function answer(
  operations: Operations,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const reply = (status: number, body: unknown): void => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body))
  }
  const [, version, what, name] = request.url?.split('/') ?? []
  const route = version === 'v1' ? `${request.method} ${what}` : ''
  try {
    if (route === 'GET status' && name === undefined) return reply(200, operations.status())
    const running =
      route === 'POST reload' && name === undefined
        ? operations.reload()
        : route === 'POST restart' && name !== undefined
          ? operations.restart(decodeURIComponent(name))
          : undefined
    if (!running) return reply(404, { problems: ['there is no such process or command'] })
    const problems = await running
    reply(problems.length === 0 ? 200 : 409, { problems })
  } catch (error) {
    reply(500, { problems: [Fault.from(error).detail ?? 'internal error'] })
  }
}
