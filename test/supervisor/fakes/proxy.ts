import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createNetServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { runChild } from '../../../shared/ipc/child.ts'
import type { Command } from '../../../shared/ipc/contract.ts'
import { createProxyHeaderReader } from '../../../shared/proxy-protocol.ts'

/**
 * A proxy of few words: answers with its process id and what it was told. SIGUSR2 makes it break the contract. A file
 * `crash` in the folder of FAKE_DIR makes it die at its start, a file `unready` keeps its check from running.
 */
const flag = (name: string): boolean => existsSync(join(process.env.FAKE_DIR ?? '', name))
if (flag('crash')) process.exit(9)

runChild('proxy', 'fake', async ({ config, check, stats }) => {
  const told: Command<'proxy'>[] = []
  let draining = false
  const http = createServer((request, response) => {
    void (async () => {
      request.resume()
      const wait = Number(new URL(request.url ?? '/', 'http://a').searchParams.get('wait'))
      if (wait > 0) await sleep(wait)
      if (draining) response.setHeader('connection', 'close')
      response.end(JSON.stringify({ pid: process.pid, told, config, env: Object.keys(process.env) }))
    })()
  })
  const server = createNetServer({ allowHalfOpen: true }, (socket) => {
    const reader = createProxyHeaderReader()
    socket.on('error', () => {})
    const onReadable = (): void => {
      const chunk: Buffer | null = socket.read()
      if (chunk === null) return
      const header = reader.push(chunk)
      if (!header) return
      socket.off('readable', onReadable)
      if (header.rest.length > 0) socket.unshift(header.rest)
      http.emit('connection', socket)
    }
    socket.on('readable', onReadable)
  })
  await new Promise<void>((resolve) => server.listen(config.socketPath, resolve))
  check('proxy.socket', 'running')
  check('proxy.fake', flag('unready') ? 'starting' : 'running')
  stats({ answered: 0 })
  process.on('SIGUSR2', () => process.send?.({ type: 'nonsense' }))
  return {
    successionPath: config.successionPath,
    command: (message) => told.push(message),
    drain: async (deadlineMs) => {
      draining = true
      server.close()
      const end = performance.now() + deadlineMs
      for (;;) {
        // An idle connection closed under a request on its way is a failed request: late, when few are left.
        if (performance.now() > end - deadlineMs / 2) http.closeIdleConnections()
        const left = await new Promise<number>((resolve) =>
          server.getConnections((_, count) => resolve(count)),
        )
        if (left === 0 || performance.now() >= end) return left
        await sleep(20)
      }
    },
  }
})
