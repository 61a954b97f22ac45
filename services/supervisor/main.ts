import { runGateway } from './run.ts'

// Standard output may be a pipe that a reader closed; losing the log must not lose the gateway.
process.stdout.on('error', () => {})
process.stderr.on('error', () => {})
process.exit(await runGateway({ env: process.env }))
