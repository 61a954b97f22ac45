import { readFileSync } from 'node:fs'
import { Agent, request as forward } from 'node:http'
import { createServer } from 'node:https'

/**
 * The floor: what the hop itself costs in Node. Terminates TLS and passes each request on over kept connections,
 * with no look at what it says. `floor.ts <certificate> <key> <upstream port>`; prints its port.
 */
const [cert = '', key = '', port = ''] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true, maxSockets: 1024 })

const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (request, response) => {
  const { method, url: path, headers } = request
  const onward = forward(
    { host: '127.0.0.1', port: Number(port), method, path, headers, agent },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    },
  )
  onward.on('error', () => response.destroy())
  request.pipe(onward)
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => console.log(`port ${(server.address() as { port: number }).port}`))
process.on('SIGTERM', () => process.exit(0))
// Ends with the run, however that ends.
process.stdin.resume().on('end', () => process.exit(0))
