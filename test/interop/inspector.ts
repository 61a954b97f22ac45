import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { Access, Subject } from './clients.ts'

const manifest = createRequire(import.meta.url).resolve('@modelcontextprotocol/inspector/package.json')
const bin = join(dirname(manifest), JSON.parse(readFileSync(manifest, 'utf8')).bin['mcp-inspector'])

const timeoutMs = 60_000

/** One command line; rejects with what it said where it ends with another code than 0. */
function run({ url, caPath, token }: Access, args: readonly string[]): Promise<string> {
  const all = [bin, '--cli', '--transport', 'http', '--server-url', url]
  const rest = ['--header', `Authorization: Bearer ${token}`, '--format', 'json', '--quiet', ...args]
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [...all, ...rest],
      { env: { ...process.env, NODE_EXTRA_CA_CERTS: caPath }, timeout: timeoutMs, maxBuffer: 16 << 20 },
      (error, stdout, stderr) =>
        error
          ? reject(new Error(`Inspector ended with ${error.code ?? error.signal}: ${stderr.slice(0, 300)}`))
          : resolve(stdout),
    )
  })
}

/** The Inspector on the command line, as people use it in scripts: each operation is a process that connects anew. */
export const inspector: Subject = {
  id: 'inspector',
  label: 'Inspector CLI',
  version: 'legacy, auto, modern',
  unable: {
    progress: 'the command line shows no progress',
    cancel: 'the command line has no way to cancel a call',
    elicit: 'the command line takes no answer of a person and declares no elicitation',
  },
  open: async (access) => {
    for (const era of ['legacy', 'auto', 'modern']) {
      await run(access, ['--protocol-era', era, '--method', 'tools/list'])
    }
    return {
      version: 'legacy, auto, modern',
      tools: async () => {
        const listed = JSON.parse(await run(access, ['--method', 'tools/list'])) as {
          result: { tools: { name: string }[] }
        }
        return listed.result.tools.map(({ name }) => name)
      },
      call: (tool, args) =>
        run(access, [
          '--method',
          'tools/call',
          '--tool-name',
          tool,
          '--tool-args-json',
          JSON.stringify(args),
        ]),
      read: (uri) => run(access, ['--method', 'resources/read', '--uri', uri]),
      prompt: (name, args) =>
        run(access, [
          ...['--method', 'prompts/get', '--prompt-name', name],
          ...['--prompt-args', ...Object.entries(args).map(([key, value]) => `${key}=${value}`)],
        ]),
      close: async () => {},
    }
  },
}
