import { chmodSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { problemsFault } from '../../shared/config/env.ts'
import { readStdioServers, type StdioServer } from '../../shared/config/stdio-servers.ts'
import type { ChildContext, RunningChild } from '../../shared/ipc/child.ts'
import type { ConfigOf } from '../../shared/ipc/contract.ts'
import { createLogger } from '../../shared/log.ts'
import { createHandler } from './http.ts'
import { Pool } from './pool.ts'

const statsEveryMs = 1_000

/** Serves the servers of the file. Throws Fault `config.invalid` with every problem of it, `listen.failed`. */
export async function startAdapter(
  context: ChildContext<'stdio-adapter'>,
  { clock = systemClock, random = Math.random }: { clock?: Clock; random?: () => number } = {},
): Promise<RunningChild<'stdio-adapter'>> {
  const { log } = context
  let config = context.config
  let pools = new Map<string, Pool>()

  const build = (next: ConfigOf['stdio-adapter']): Map<string, Pool> => {
    const read = readStdioServers(next.serversPath)
    if ('problems' in read) throw problemsFault(read.problems)
    const { hidden, maxMessageBytes } = next
    const kept = (server: StdioServer): Pool | undefined => {
      const known = pools.get(server.name)
      return known && JSON.stringify(known.server) === JSON.stringify(server) ? known : undefined
    }
    return new Map(
      read.ok.map((server) => [
        server.name,
        kept(server) ?? new Pool(server, { clock, random, log, hidden, maxMessageBytes }),
      ]),
    )
  }

  pools = build(config)
  const handler = createHandler({ pools: () => pools, maxMessageBytes: config.maxMessageBytes, log })
  const http = createServer({ requestTimeout: 0, keepAliveTimeout: 60_000 }, handler)
  rmSync(config.socketPath, { force: true })
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject)
    http.listen(config.socketPath, resolve)
  })
  // Whoever may open it may use these servers as anybody: proxy alone. The folder is 0700 already.
  chmodSync(config.socketPath, 0o600)
  context.check('stdio-adapter.servers', 'running')
  const report = (): void => context.stats(statsOf(pools))
  report()
  const timer = setInterval(report, statsEveryMs).unref()

  return {
    reconfigure: async (next) => {
      const before = pools
      pools = build(next)
      config = next
      log.level = createLogger('stdio-adapter', next.logLevel).level
      // Servers that changed or went: their sessions are opened again by the next request.
      const kept = new Set(pools.values())
      for (const pool of before.values()) if (!kept.has(pool)) void pool.close()
      report()
    },
    drain: async (deadlineMs) => {
      clearInterval(timer)
      http.close()
      const deadline = clock.now() + deadlineMs
      const busy = (): number => [...pools.values()].reduce((sum, pool) => sum + pool.busy, 0)
      while (busy() > 0 && clock.now() < deadline) await clock.sleep(20)
      const left = busy()
      http.closeAllConnections()
      await Promise.all([...pools.values()].map((pool) => pool.close()))
      return left
    },
  }
}

function statsOf(pools: ReadonlyMap<string, Pool>): Record<string, number> {
  const rows = [...pools].flatMap(([name, pool]): [string, number][] => [
    [`${name}.processes`, pool.size],
    [`${name}.starts`, pool.started],
    ...(pool.crashes > 0 ? [[`${name}.crashes`, pool.crashes] as [string, number]] : []),
  ])
  return Object.fromEntries(rows)
}
