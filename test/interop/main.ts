import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import PQueue from 'p-queue'
import { type Cell, tryPair } from './cells.ts'
import { sdkClients } from './clients.ts'
import { expected } from './exceptions.ts'
import { inspector } from './inspector.ts'
import { startEverything, startStdio } from './peers/everything.ts'
import type { Peer } from './peers/peer.ts'
import { startSdkV1 } from './peers/sdk-v1.ts'
import { startHttpSse, startSdkV2 } from './peers/sdk-v2.ts'
import { complaints, type Matrix, page, summary, times, withSummary } from './report.ts'
import { startGateway } from './world.ts'

/**
 * `npm run interop`: every client with every server through the whole gateway; writes docs/interop.md and its summary in
 * README.md. `-- --check` writes nothing and fails where they differ from the run; `-- --server <id>` and
 * `-- --client <id>` run a part of it and neither write nor compare. Exit code 1 where a cell fails that is not expected to.
 */
const { values } = parseArgs({
  options: { check: { type: 'boolean' }, server: { type: 'string' }, client: { type: 'string' } },
})
const atOnce = 2
const document = new URL('../../docs/interop.md', import.meta.url)
const readme = new URL('../../README.md', import.meta.url)

const starts: Readonly<Record<string, () => Promise<Peer>>> = {
  everything: startEverything,
  sdkv1: startSdkV1,
  sdkv2: startSdkV2,
  httpsse: startHttpSse,
  stdio: startStdio,
}
const clients = [...sdkClients, inspector].filter(({ id }) => !values.client || id === values.client)
const peers = await Promise.all(
  Object.entries(starts)
    .filter(([id]) => !values.server || id === values.server)
    .map(([, start]) => start()),
)
try {
  const gateway = await startGateway(peers)
  try {
    const columns = new PQueue({ concurrency: atOnce })
    const cells = await columns.addAll(
      peers.map((peer) => async () => {
        const column: Cell[] = []
        // One after the other: what a server counts belongs to one client.
        for (const client of clients) {
          const pair = await tryPair(gateway.access, client, peer)
          // As it goes: a run that is cut short shows how far it came.
          console.log(times(client, peer, pair))
          for (const { operation, outcome } of pair) {
            if (outcome.kind === 'fails') console.log(`  ${operation}: ${outcome.reason}`)
          }
          column.push(...pair)
        }
        return column
      }),
    )
    const matrix: Matrix = { clients, servers: peers, cells: cells.flat(), expected }
    const problems = complaints(matrix)
    const whole = !values.server && !values.client
    if (whole) {
      const wanted = [
        [document, page(matrix)],
        [readme, withSummary(readFileSync(readme, 'utf8'), matrix)],
      ] as const
      for (const [file, text] of wanted) {
        if (!values.check) writeFileSync(file, text)
        else if (readFileSync(file, 'utf8') !== text) {
          problems.push(`${file.pathname.split('/').at(-1)} differs from this run: npm run interop`)
        }
      }
    }
    console.log(`\n${summary(matrix)}\n`)
    for (const problem of problems) console.log(problem)
    const works = matrix.cells.filter(({ outcome }) => outcome.kind === 'works').length
    console.log(`${works} passed, ${problems.length} failed`)
    process.exitCode = problems.length > 0 ? 1 : 0
  } finally {
    await gateway.end()
  }
} finally {
  await Promise.all(peers.map((peer) => peer.close()))
}
