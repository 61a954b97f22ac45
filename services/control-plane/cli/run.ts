import { text } from 'node:stream/consumers'
import { z } from 'zod'
import type { Env } from '../../../shared/config/env.ts'
import { Fault } from '../../../shared/faults.ts'
import { version } from '../../../shared/version.ts'
import { type AdminApi, adminApi, Refusal, Unreachable } from './admin-api.ts'
import { type Command, exits, type Outcome } from './command.ts'
import { applyCommand, checkCommand } from './configuration.ts'
import { explainCommand } from './explain.ts'
import { keysList, keysRotate } from './keys.ts'
import { killSwitchAdd, killSwitchList, killSwitchRemove } from './kill-switch.ts'
import { type OptionTable, readOptions, UsageFault } from './options.ts'
import { hashPasswordCommand, rotateMasterKeyCommand } from './secrets.ts'
import { controllerAdd, statusCommand } from './status.ts'

export const program = 'aembit_control_plane'

const commands: readonly Command[] = [
  statusCommand,
  killSwitchAdd,
  killSwitchList,
  killSwitchRemove,
  explainCommand,
  checkCommand,
  applyCommand,
  keysList,
  keysRotate,
  controllerAdd,
  rotateMasterKeyCommand,
  hashPasswordCommand,
]

const common: OptionTable = {
  json: { type: 'boolean' },
  url: { type: 'string' },
  'token-path': { type: 'string' },
}

export const usage = `${program} ${version}

  ${program}                            run the control plane here (what the service unit does)
  ${program} --check                    check the configuration of AEMBIT_CONFIG_PATH
${commands.map(({ name, usage: [args, says] }) => `  ${program} ${name}${args && ` ${args}`}\n      ${says}`).join('\n')}

  --json               for scripts
  --url <address>      a gateway's address, else the socket in AEMBIT_RUNTIME_DIR
  --token-path <path>  the administrator token, else admin-token in AEMBIT_STATE_DIR

Exit codes: 0 done or allowed, 1 refused or denied, 2 wrong usage or configuration, 3 no control plane answers.`

export interface Output {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
}

/** One command; answers the exit code. */
export async function runCommand(args: readonly string[], env: Env, { out, err }: Output): Promise<number> {
  const json = args.includes('--json')
  const fail = (problems: readonly string[], exit: number): number => {
    if (json) out(JSON.stringify({ problems }))
    else err(problems.map((problem) => `${program}: ${problem}`).join('\n'))
    return exit
  }
  const command = commands.find(({ name }) => name.split(' ').every((word, at) => args[at] === word))
  if (!command) {
    if (args.includes('--help') || args.includes('-h') || args[0] === 'help') {
      out(usage)
      return exits.done
    }
    const group = commands.filter(({ name }) => name.split(' ')[0] === args[0]).map(({ name }) => name)
    const known = group.length > 0 ? `use ${group.join(', ')}` : `${program} --help lists the commands`
    return fail(
      [
        `there is no command "${args
          .filter((arg) => !arg.startsWith('-'))
          .slice(0, 2)
          .join(' ')}"; ${known}`,
      ],
      exits.usage,
    )
  }
  let api: AdminApi | undefined
  try {
    const rest = args.slice(command.name.split(' ').length)
    const { values, positionals } = readOptions(rest, { ...common, ...command.options }, command.positionals)
    const outcome: Outcome = await command.run({
      values,
      positionals,
      env,
      api: () => {
        api ??= adminApi(env, {
          url: values.url as string | undefined,
          tokenPath: values['token-path'] as string | undefined,
        })
        return api
      },
      stdin: () => text(process.stdin),
    })
    if (json) out(JSON.stringify(outcome.data, null, 2))
    else out(outcome.text)
    return outcome.exit ?? exits.done
  } catch (error) {
    if (error instanceof UsageFault) return fail(error.problems, exits.usage)
    if (error instanceof Refusal) return fail(error.problems, exits.refused)
    if (error instanceof Unreachable) return fail([error.message], exits.unreachable)
    if (error instanceof z.ZodError) {
      return fail(
        ['the control plane answered in a shape of another version; use its own command'],
        exits.refused,
      )
    }
    const fault = Fault.from(error)
    return fail([fault.detail ?? fault.message], exits.refused)
  } finally {
    await api?.close()
  }
}
