import { runChild } from '../../../shared/ipc/child.ts'

/** A sync that has always just fetched version 7. */
runChild('sync', 'fake', async ({ check, send, config }) => {
  check('sync.control_plane', 'running')
  send({
    type: 'snapshot',
    ref: { version: 7, path: `${config.stateDir}/snapshot.json`, sha256: 'x' },
    confirmedAt: 1000,
  })
  send({ type: 'confirmed', version: 7, confirmedAt: 2000 })
  return { drain: async () => 0 }
})
