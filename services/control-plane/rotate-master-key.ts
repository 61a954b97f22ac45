import { parseArgs } from 'node:util'
import { formatProblems, invalidConfigExit } from '../../shared/config/env.ts'
import { Fault } from '../../shared/faults.ts'
import { createSealer } from './credentials/sealer.ts'
import { readEnvironment } from './environment.ts'
import { rotateMasterKey } from './store/rotate.ts'

/**
 * `node services/control-plane/rotate-master-key.ts [--new-key <path>]`, with the environment of the control plane and
 * while it is stopped. Interrupted: run it again.
 */
const program = 'rotate-master-key'
process.umask(0o077)
const { values } = parseArgs({ options: { 'new-key': { type: 'string' } } })
const read = readEnvironment({ ...process.env, AEMBIT_CONFIG_PATH: process.env.AEMBIT_CONFIG_PATH ?? '/' })
if ('problems' in read) {
  console.error(formatProblems(program, read.problems))
  process.exit(invalidConfigExit)
}
const { stateDir, masterKeyPath } = read.ok
try {
  const newKeyPath = values['new-key']
  const { count, keyPath } = await rotateMasterKey({
    stateDir,
    keyPath: masterKeyPath,
    newKeyPath,
    createSealer,
  })
  console.log(`${count} values are sealed under the new key.`)
  console.log(
    newKeyPath === undefined
      ? `It is in ${keyPath}; the former key opens nothing any more. Start the control plane, and back the key up.`
      : `Make ${keyPath} what AEMBIT_MASTER_KEY_PATH names (or its systemd credential) before you start the control plane.`,
  )
} catch (error) {
  const fault = Fault.from(error)
  console.error(`${program}: ${fault.message}\n${fault.detail ?? ''}`)
  process.exit(fault.code === 'config.invalid' ? invalidConfigExit : 1)
}
