import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createServer } from 'node:http'

/** What the samples share: a loopback HTTP server that stops when told, and bounded bodies. */
const maxBodyBytes = 1024 * 1024

export async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request) {
    size += (chunk as Buffer).length
    if (size > maxBodyBytes) throw new Error('the body is too large')
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString('utf8')
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

export const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

/** Listens on 127.0.0.1 alone; says so on stdout in the words that the quickstart waits for. */
export function serve(
  name: string,
  port: number,
  handler: RequestListener,
  close: () => void = () => {},
): void {
  const server = createServer((request, response) => {
    Promise.resolve(handler(request, response)).catch((error: unknown) => {
      console.error(`${name}: ${request.method} ${request.url?.split('?')[0]}: ${error}`)
      if (!response.headersSent) sendJson(response, 500, { error: 'server_error' })
      else response.destroy()
    })
  })
  server.on('error', (error: NodeJS.ErrnoException) => {
    const taken = error.code === 'EADDRINUSE'
    console.error(taken ? `${name}: 127.0.0.1:${port} is taken` : `${name}: ${error.message}`)
    process.exit(taken ? 2 : 1)
  })
  server.listen(port, '127.0.0.1', () => console.log(`${name} listens on 127.0.0.1:${port}`))
  const stop = (): void => {
    server.close(() => {
      close()
      process.exit(0)
    })
    server.closeAllConnections()
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
}
