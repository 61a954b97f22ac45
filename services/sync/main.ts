import { hostname } from 'node:os'
import { systemClock } from '../../shared/clock.ts'
import { runChild } from '../../shared/ipc/child.ts'
import { version } from '../../shared/version.ts'
import { startSync } from './app.ts'

runChild('sync', version, (context) =>
  startSync(context, {
    clock: systemClock,
    random: Math.random,
    hostname: hostname(),
    env: process.env,
  }),
)
