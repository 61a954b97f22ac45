import { userInfo } from 'node:os'
import { decodeJwt } from 'jose'
import { z } from 'zod'
import { type AdminApi, Refusal } from './admin-api.ts'
import { type Command, type Run, table, time } from './command.ts'
import { type OptionTable, UsageFault } from './options.ts'

const entrySchema = z.object({
  externalId: z.string(),
  kind: z.string(),
  value: z.string(),
  reason: z.string(),
  isActive: z.boolean(),
  createdAt: z.string(),
  revertedAt: z.string().nullable(),
})
const listSchema = z.object({ recordsTotal: z.number(), entities: z.array(entrySchema) })
type Entry = z.infer<typeof entrySchema>

const kinds = ['user', 'client', 'server', 'token'] as const
const targetOptions: OptionTable = Object.fromEntries(
  kinds.map((kind) => [kind, { type: 'string', multiple: true } as const]),
)

/** Who is meant. `--token -` reads the token from standard input, as other programs see arguments. */
async function targets({ values, stdin }: Run): Promise<{ kind: string; value: string }[]> {
  const all = kinds.flatMap((kind) =>
    ((values[kind] ?? []) as string[]).map((value) => ({ kind: kind as string, value })),
  )
  if (all.length === 0) {
    throw new UsageFault([
      'nobody is named: --user <sub>, --client <id>, --server <id> or --token <jti or ->',
    ])
  }
  const read = all.some(({ kind, value }) => kind === 'token' && value === '-') ? (await stdin()).trim() : ''
  return all.map(({ kind, value }) => ({ kind, value: kind === 'token' && value === '-' ? read : value }))
}

const row = ({ kind, value, createdAt, reason, externalId }: Entry): string[] => [
  kind,
  value,
  time(createdAt),
  externalId,
  reason,
]
const heading = ['kind', 'who', 'since', 'id', 'reason']

export const killSwitchAdd: Command = {
  name: 'kill-switch add',
  usage: [
    '--user|--client|--server|--token <who> [--reason <text>]',
    'shut out of every gateway at once, running calls included',
  ],
  options: { ...targetOptions, reason: { type: 'string' } },
  run: async (run) => {
    const who = await targets(run)
    const reason =
      run.values.reason ?? `set at the command line by ${process.env.SUDO_USER ?? userInfo().username}`
    const entries: Entry[] = []
    const problems: string[] = []
    for (const target of who) {
      try {
        entries.push(entrySchema.parse(await run.api().call('POST', 'kill-switch', { ...target, reason })))
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
        problems.push(...error.problems.map((problem) => `${target.kind}: ${problem}`))
      }
    }
    if (problems.length > 0) {
      const done = entries.map(({ kind, value }) => `${kind} ${value} is shut out all the same`)
      throw new Refusal([...problems, ...done])
    }
    return {
      text: `shut out; every gateway that is connected has it now\n\n${table([heading, ...entries.map(row)])}`,
      data: { entities: entries },
    }
  },
}

export const killSwitchList: Command = {
  name: 'kill-switch list',
  usage: ['[--all]', 'who is shut out; --all: whoever was'],
  options: { all: { type: 'boolean' } },
  run: async ({ values, api }) => {
    const found = await all(api(), values.all !== true)
    const state = ({ isActive, revertedAt }: Entry) => (isActive ? 'yes' : `until ${time(revertedAt)}`)
    return {
      text:
        found.length === 0
          ? 'nobody is shut out'
          : table([['acts', ...heading], ...found.map((entry) => [state(entry), ...row(entry)])]),
      data: { recordsTotal: found.length, entities: found },
    }
  },
}

export const killSwitchRemove: Command = {
  name: 'kill-switch remove',
  usage: ['--user|--client|--server|--token <who> | --id <id>', 'let in again'],
  options: { ...targetOptions, id: { type: 'string', multiple: true } },
  run: async (run) => {
    const ids = [...((run.values.id ?? []) as string[])]
    const api = run.api()
    if (kinds.some((kind) => run.values[kind] !== undefined) || ids.length === 0) {
      const acting = await all(api, true)
      const missing: string[] = []
      for (const target of await targets(run)) {
        const value = target.kind === 'token' ? jti(target.value) : target.value
        const entry = acting.find((each) => each.kind === target.kind && each.value === value)
        if (entry) ids.push(entry.externalId)
        else missing.push(`${target.kind} ${value} is not shut out; kill-switch list shows who is`)
      }
      if (missing.length > 0) throw new Refusal(missing)
    }
    const entries: Entry[] = []
    for (const id of ids) {
      entries.push(entrySchema.parse(await api.call('DELETE', `kill-switch/${encodeURIComponent(id)}`)))
    }
    return {
      text: entries.map(({ kind, value }) => `${kind} ${value} is let in again`).join('\n'),
      data: { entities: entries },
    }
  },
}

const maxPages = 1_000

async function all(api: AdminApi, active: boolean): Promise<Entry[]> {
  const found: Entry[] = []
  for (let page = 1; page <= maxPages; page += 1) {
    const path = `kill-switch?active=${active}&page=${page}&per-page=1000`
    const { entities, recordsTotal } = listSchema.parse(await api.call('GET', path))
    found.push(...entities)
    if (entities.length === 0 || found.length >= recordsTotal) break
  }
  return found
}

/** A whole token is known by its `jti`. */
function jti(token: string): string {
  if (token.split('.').length !== 3) return token
  try {
    return decodeJwt(token).jti ?? token
  } catch {
    return token
  }
}
