import { z } from 'zod'
import { ConfigFault, loadConfig } from '../config/load.ts'
import { type Command, exits } from './command.ts'

const answerSchema = z.object({
  path: z.string(),
  applied: z.boolean(),
  snapshotVersion: z.number(),
  warnings: z.array(z.string()),
  changes: z.array(
    z.object({
      what: z.enum(['added', 'removed', 'changed']),
      path: z.string(),
      before: z.string().optional(),
      after: z.string().optional(),
    }),
  ),
})

/** `check`: the file as it would be read at a start, and nothing else; no control plane is asked. */
export const checkCommand: Command = {
  name: 'check',
  usage: ['<config>', 'read a configuration and every secret it names; every problem with its line'],
  options: {},
  positionals: ['<config>'],
  run: async ({ positionals: [path = ''], env }) => {
    const warnings: string[] = []
    try {
      await loadConfig(path, { env, warn: (line) => warnings.push(line) })
    } catch (error) {
      if (!(error instanceof ConfigFault)) throw error
      return {
        text: [...error.problems, ...warnings, '', `${path} is not valid`].join('\n'),
        data: { valid: false, problems: error.problems, warnings },
        exit: exits.usage,
      }
    }
    return {
      text: [...warnings, `${path} is valid`].join('\n'),
      data: { valid: true, problems: [], warnings },
    }
  },
}

const sign = { added: '+', removed: '-', changed: '~' } as const

/** `apply`: puts the file that the control plane was started with in force, or says what that would change. */
export const applyCommand: Command = {
  name: 'apply',
  usage: [
    '[--dry-run]',
    'read the configuration again, as SIGHUP does; --dry-run: only say what would change',
  ],
  options: { 'dry-run': { type: 'boolean' } },
  run: async ({ values, api }) => {
    const dryRun = values['dry-run'] === true
    const data = answerSchema.parse(
      await api().call('POST', `configuration/${dryRun ? 'preview' : 'apply'}`, {}),
    )
    const lines = data.changes.map(({ what, path, before, after }) =>
      what === 'changed' ? `${sign[what]} ${path}: ${before} → ${after}` : `${sign[what]} ${path}`,
    )
    const count = `${lines.length} ${lines.length === 1 ? 'change' : 'changes'}`
    const said =
      lines.length === 0
        ? `${data.path} says what is in force already`
        : dryRun
          ? `${count} of ${data.path} would come into force; nothing was applied`
          : `${count} of ${data.path} in force, policy version ${data.snapshotVersion}`
    return { text: [...data.warnings, ...lines, said].join('\n'), data }
  },
}
