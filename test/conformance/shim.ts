import { readFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'

export interface Shim {
  readonly url: string
  close(): Promise<void>
}

const hopByHop = ['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'upgrade']

/**
 * The suite can send no token and speaks plain HTTP to loopback. This stands before the gateway, adds the token to
 * each request, and leaves everything else as it is: bodies, statuses, streams, who hangs up first. Where the suite
 * means the server itself, in Host or Origin, the gateway's own name is put; any other name reaches the gateway.
 */
export async function startShim(target: string, caPath: string, token: string): Promise<Shim> {
  const gateway = new URL(target)
  const agent = new Agent({ keepAlive: true, ca: readFileSync(caPath), servername: gateway.hostname })
  const server = createServer((request, response) => {
    const own = [`127.0.0.1:${port}`, `localhost:${port}`]
    const { host = '', origin, ...rest } = request.headers
    const headers: IncomingHttpHeaders = { ...rest, authorization: `Bearer ${token}` }
    for (const name of hopByHop) delete headers[name]
    headers.host = own.includes(host) ? gateway.host : host
    if (origin !== undefined) {
      headers.origin = own.some((name) => origin === `http://${name}`) ? gateway.origin : origin
    }
    const { pathname: path } = gateway
    const onward = httpsRequest(
      { host: gateway.hostname, port: gateway.port, path, method: request.method, headers, agent },
      (answer) => {
        for (const name of hopByHop) delete answer.headers[name]
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        response.flushHeaders()
        answer.pipe(response)
        answer.on('error', () => response.destroy())
      },
    )
    onward.on('error', () => response.destroy())
    response.on('close', () => onward.destroy())
    request.pipe(onward)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}${gateway.pathname}`,
    close: async () => {
      agent.destroy()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
