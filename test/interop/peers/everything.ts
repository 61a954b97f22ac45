import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { stringify } from 'yaml'
import { node } from '../../stdio-adapter/rig.ts'
import { countCancellations } from './cancellations.ts'
import { listen, loopback, readBody } from './listen.ts'
import type { Dialect, Peer } from './peer.ts'

const everythingEntry = createRequire(import.meta.url).resolve(
  '@modelcontextprotocol/server-everything/dist/index.js',
)

const everythingDialect: Dialect = {
  echo: { tool: 'echo', argument: 'message' },
  steps: { tool: 'trigger-long-running-operation', args: { duration: 0.3, steps: 3 } },
  wait: { tool: 'trigger-long-running-operation', args: { duration: 20, steps: 40 } },
  ask: { tool: 'trigger-elicitation-request' },
  resource: { uri: 'demo://resource/dynamic/text/7', text: 'Resource 7' },
  prompt: { name: 'args-prompt', args: { city: 'Oslo' }, text: "What's weather in Oslo?" },
}

/**
 * The reference server as its package starts it, over streamable HTTP. A recorder stands before it and passes bytes on
 * as they come: the server does not show that it was told of a cancellation.
 */
export async function startEverything(): Promise<Peer> {
  const free = await listen(() => {})
  await free.close()
  const child = spawn(process.execPath, [everythingEntry, 'streamableHttp'], {
    env: { ...process.env, PORT: String(free.port) },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const exit = once(child, 'exit')
  await Promise.race([
    (async () => {
      for await (const line of createInterface({ input: child.stderr })) {
        if (line.includes('listening on port')) break
      }
    })(),
    exit.then(() => Promise.reject(new Error('server-everything did not start'))),
  ])
  child.stderr.resume()

  let cancelled = 0
  const before = await listen(async (request, response) => {
    const body = await readBody(request)
    cancelled += countCancellations(body)
    const { method, url, headers } = request
    const onward = httpRequest(
      { host: '127.0.0.1', port: free.port, method, path: url, headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        response.flushHeaders()
        answer.pipe(response)
      },
    )
    onward.on('error', () => response.destroy())
    response.on('close', () => onward.destroy())
    onward.end(body)
  })
  return {
    id: 'everything',
    label: 'server-everything',
    workload: { url: `http://127.0.0.1:${before.port}/mcp`, ...loopback },
    dialect: everythingDialect,
    cancellations: () => cancelled,
    close: async () => {
      child.kill('SIGKILL')
      await Promise.all([before.close(), exit])
    },
  }
}

/** tee(1) writes down what the server is told, before it: see startEverything. */
const recorded = 'tee -a "$1" | exec "$2" "$3" stdio'

/** The same server over stdio, started by the gateway's adapter. */
export async function startStdio(): Promise<Peer> {
  const id = 'stdio'
  const dir = mkdtempSync(join(tmpdir(), 'interop-'))
  const told = join(dir, 'told')
  const servers = join(dir, 'stdio-servers.yaml')
  writeFileSync(told, '')
  const everything = {
    ...node(everythingEntry),
    command: '/bin/sh',
    args: ['-c', recorded, 'sh', told, process.execPath, everythingEntry],
  }
  writeFileSync(servers, stringify({ servers: { [id]: everything } }), { mode: 0o600 })
  return {
    id,
    label: 'stdio server',
    workload: { url: `stdio:${id}` },
    env: {
      AEMBIT_STDIO_SERVERS_PATH: servers,
      // A listing waits for the start of a process here; how long that takes is the machine's affair.
      AEMBIT_MCP_GATEWAY_TIMEOUT: [
        'initialize',
        'tools_list',
        'resources_list',
        'resources_templates_list',
        'prompts_list',
      ]
        .map((name) => `${name}=30s`)
        .join(','),
    },
    dialect: everythingDialect,
    cancellations: () => countCancellations(readFileSync(told, 'utf8')),
    close: async () => rmSync(dir, { recursive: true, force: true }),
  }
}
