import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { ConfigOf, Report } from '../../shared/ipc/contract.ts'
import { proves } from '../requirements.ts'

const config: ConfigOf['sync'] = {
  logLevel: 'off',
  version: '0.0.0',
  gatewayUrl: 'https://gw.example/mcp',
  agentControllerUrl: 'http://127.0.0.1:5000',
  controlPlaneUrl: 'unix:/nowhere',
  enrolmentSecretPath: null,
  stateDir: '/nowhere',
  socketPath: '/nowhere/s',
  spoolDir: '/nowhere/spool',
  spoolMaxBytes: 1,
  snapshotMaxAgeMs: 1,
}

t.test('configurations that come during the start, or at once, are applied in their order', async (t) => {
  proves(t, 'GW-RELOAD-03')
  const child = fork(fileURLToPath(new URL('slow-child.ts', import.meta.url)), { execArgv: [] })
  t.teardown(() => child.kill('SIGKILL'))
  const said: string[] = []
  const done = new Promise<void>((resolve) => {
    child.on('message', (report: Report<'sync'>) => {
      if (report.type === 'stats')
        said.push(`${report.values.before ?? '-'} to ${report.values.spoolMaxBytes}`)
      if (report.type === 'applied' || report.type === 'rejected') said.push(`${report.type} ${report.epoch}`)
      if (said.at(-1) === 'applied 4') resolve()
    })
  })
  for (const [at, spoolMaxBytes] of [1, 2, 666, 4].entries())
    child.send({ type: 'configure', epoch: at + 1, config: { ...config, spoolMaxBytes } })
  await done
  t.same(said, ['- to 1', 'applied 1', '1 to 2', 'applied 2', 'rejected 3', '2 to 4', 'applied 4'])
  child.send({ type: 'drain', deadlineMs: 100 })
  t.same(await once(child, 'exit'), [0, null])
})
