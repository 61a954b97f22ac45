import { chownSync, statSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { Fault } from '../../../shared/faults.ts'
import { createSealer } from '../credentials/sealer.ts'
import { readEnvironment } from '../environment.ts'
import { createPasswords } from '../identity/passwords.ts'
import { rotateMasterKey } from '../store/rotate.ts'
import { Refusal } from './admin-api.ts'
import type { Command } from './command.ts'
import { UsageFault } from './options.ts'

const absolute = (path: string): string => {
  if (isAbsolute(path)) return path
  throw new Error('must be an absolute path')
}

/** Works on the state folder itself, while the control plane is stopped. Interrupted: run it again. */
export const rotateMasterKeyCommand: Command = {
  name: 'rotate-master-key',
  usage: [
    '[--key <path>] [--new-key <path>]',
    'seal everything under a new master key; the control plane must be stopped',
  ],
  options: {
    key: { type: 'string', parse: absolute },
    'new-key': { type: 'string', parse: absolute },
  },
  run: async ({ values, env }) => {
    const read = readEnvironment({ ...env, AEMBIT_CONFIG_PATH: env.AEMBIT_CONFIG_PATH ?? '/' })
    if ('problems' in read)
      throw new UsageFault(read.problems.map(({ key, message }) => `${key}: ${message}`))
    const { stateDir } = read.ok
    const formerPath = (values.key as string | undefined) ?? read.ok.masterKeyPath
    const newKeyPath = values['new-key'] as string | undefined
    try {
      const { count, keyPath } = await rotateMasterKey({
        stateDir,
        keyPath: formerPath,
        newKeyPath,
        createSealer,
      })
      // Run by root, the key must stay readable for whom the folder belongs to.
      if (process.getuid?.() === 0) {
        const { uid, gid } = statSync(stateDir)
        if (keyPath.startsWith(`${stateDir}/`)) chownSync(keyPath, uid, gid)
      }
      const next =
        newKeyPath === undefined
          ? `It is in ${keyPath}; the former key opens nothing any more. Start the control plane, and back the key up.`
          : `Make ${keyPath} what AEMBIT_MASTER_KEY_PATH names (or its systemd credential) before you start the control plane.`
      return { text: `${count} values are sealed under the new key.\n${next}`, data: { count, keyPath } }
    } catch (error) {
      const fault = Fault.from(error)
      if (fault.code !== 'config.invalid') throw error
      throw new Refusal([fault.detail ?? fault.message])
    }
  },
}

/** `passwordHash` for the YAML. Never an argument: other programs of the machine see those. */
export const hashPasswordCommand: Command = {
  name: 'hash-password',
  usage: ['< file', 'the passwordHash of a password on standard input'],
  options: {},
  run: async ({ stdin }) => {
    const password = (await stdin()).replace(/\r?\n$/, '')
    if (password === '') throw new UsageFault(['send the password on standard input'])
    const passwordHash = await createPasswords().hash(password)
    return { text: passwordHash, data: { passwordHash } }
  },
}
