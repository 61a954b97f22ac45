import { createRequire } from 'node:module'
import { Server } from 'node:net'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

/**
 * Starts @modelcontextprotocol/server-everything over streamable HTTP on the port in PORT. The server knows no
 * way to be told an address and would listen on all of them: here it is held to 127.0.0.1.
 */
const listen = Server.prototype.listen
Server.prototype.listen = function (this: Server, ...args: unknown[]): Server {
  const [port, ...rest] = args
  const callback = rest.find((item) => typeof item === 'function') as (() => void) | undefined
  return listen.call(this, { port: Number(port), host: '127.0.0.1' }, () => {
    callback?.call(this)
    console.log(`everything listens on 127.0.0.1:${port}`)
  })
}

process.argv[2] = 'streamableHttp'
process.on('SIGTERM', () => process.exit(0))
const manifest = createRequire(import.meta.url).resolve(
  '@modelcontextprotocol/server-everything/package.json',
)
await import(pathToFileURL(join(dirname(manifest), 'dist/index.js')).href)
