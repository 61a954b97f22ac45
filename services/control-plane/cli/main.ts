#!/usr/bin/env node
import { version } from '../../../shared/version.ts'
import { runCommand } from './run.ts'

/** `aembit_control_plane`: without a command it runs the control plane, as the service unit does. */
const args = process.argv.slice(2)
process.umask(0o077)
if (args.length === 0 || args[0] === '--check') await import('../main.ts')
else if (args[0] === '--version') console.log(version)
else {
  process.exitCode = await runCommand(args, process.env, {
    out: (text) => console.log(text),
    err: (text) => console.error(text),
  })
}
