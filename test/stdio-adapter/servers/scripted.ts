import { existsSync, readdirSync } from 'node:fs'
import { createInterface } from 'node:readline'

/** A legacy server over stdio by hand, whose tools tell what its process can see. */
const write = (message: object): void =>
  void process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
const said = (id: unknown, value: unknown): void =>
  write({ id, result: { content: [{ type: 'text', text: JSON.stringify(value) }] } })

if (process.argv[2] === 'crash' || process.env.API_TOKEN === 'revoked') process.exit(3)
// Ends when it is told to by a signal, not with its input.
if (process.argv[2] === 'stays') setInterval(() => {}, 60_000)
console.error(`started with ${process.env.API_TOKEN ?? 'no token'}`)
const names = ['pid', 'env', 'sees', 'processes', 'exit', 'hang', 'big', 'noise', 'change', 'count']

const tools: Record<
  string,
  (id: unknown, args: Record<string, unknown>, meta: Record<string, unknown>) => void
> = {
  pid: (id) => said(id, process.pid),
  env: (id) => said(id, process.env),
  sees: (id, { path }) => said(id, existsSync(String(path)) ? readdirSync(String(path)) : null),
  processes: (id) => said(id, readdirSync('/proc').filter((name) => /^\d+$/.test(name)).length),
  exit: () => process.exit(1),
  hang: () => {},
  big: (id) => said(id, 'x'.repeat(2 << 20)),
  noise: (id) => {
    process.stdout.write('this is no JSON\n')
    for (let line = 0; line < 500; line++) console.error(`line ${line}`)
    said(id, 'done')
  },
  change: (id) => {
    write({ method: 'notifications/tools/list_changed' })
    said(id, 'changed')
  },
  count: (id, _args, { progressToken }) => {
    for (const progress of [1, 2])
      write({ method: 'notifications/progress', params: { progressToken, progress } })
    said(id, 'counted')
  },
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params = {} } = JSON.parse(line)
  if (method === 'initialize') {
    write({
      id,
      result: {
        protocolVersion: '2025-06-18',
        capabilities: { tools: { listChanged: true } },
        serverInfo: { name: 'scripted', version: '1' },
      },
    })
  } else if (method === 'tools/list') {
    write({ id, result: { tools: names.map((name) => ({ name, inputSchema: { type: 'object' } })) } })
  } else if (method === 'tools/call') {
    tools[params.name]?.(id, params.arguments ?? {}, params._meta ?? {})
  } else if (method === 'notifications/cancelled') {
    console.error(`cancelled ${typeof params.requestId}`)
  } else if (id !== undefined) {
    write({ id, error: { code: -32601, message: 'Method not found' } })
  }
})
