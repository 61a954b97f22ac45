import { z } from 'zod'
import { type Command, table, time } from './command.ts'

const total = z.object({ recordsTotal: z.number() })
const healthSchema = z.object({ status: z.string(), version: z.string(), snapshotVersion: z.number() })
const controllersSchema = z.object({
  entities: z.array(
    z.object({
      externalId: z.string(),
      name: z.string(),
      version: z.string().nullable(),
      isRegistered: z.boolean(),
      isHealthy: z.boolean(),
      lastReportedHealthTime: z.string().nullable(),
    }),
  ),
})
const keysSchema = z.object({
  entities: z.array(z.object({ kid: z.string(), state: z.string(), createdAt: z.string() })),
})

export const statusCommand: Command = {
  name: 'status',
  usage: ['', 'version, policy, agent controllers, what is shut out or waits'],
  options: {},
  run: async ({ api }) => {
    const get = (path: string): Promise<unknown> => api().call('GET', path)
    const [controllers, killed, pins, keys] = await Promise.all([
      get('agent-controllers').then((body) => controllersSchema.parse(body).entities),
      get('kill-switch?per-page=1').then((body) => total.parse(body).recordsTotal),
      get('tool-pins?state=pending&per-page=1').then((body) => total.parse(body).recordsTotal),
      get('signing-keys').then((body) => keysSchema.parse(body).entities),
    ])
    // Last: without the right token it says less than the others refuse.
    const health = healthSchema.parse(await get('health'))
    const signing = keys.find(({ state }) => state === 'active')
    const rows = controllers.map((each) => [
      each.name,
      each.isHealthy ? 'healthy' : each.isRegistered ? 'NOT HEALTHY' : 'not registered',
      each.version ?? '-',
      time(each.lastReportedHealthTime),
      each.externalId,
    ])
    return {
      text: [
        `${health.status.toLowerCase()}  control plane ${health.version}`,
        `policy   version ${health.snapshotVersion}`,
        `keys     ${keys.length}${signing ? `, signing with ${signing.kid} since ${time(signing.createdAt)}` : ''}`,
        `shut out ${killed}${killed > 0 ? ' (kill-switch list)' : ''}`,
        `tools    ${pins} changed or new definitions wait for approval`,
        '',
        rows.length === 0
          ? 'no agent controller yet: controller add <name>'
          : table([['controller', 'state', 'version', 'last heard', 'id'], ...rows]),
      ].join('\n'),
      data: {
        ...health,
        signingKeys: keys,
        killSwitches: killed,
        pendingToolPins: pins,
        agentControllers: controllers,
      },
    }
  },
}

const madeSchema = z.object({ externalId: z.string(), name: z.string() })
const codeSchema = z.object({ device_code: z.string(), expires_at: z.string() })

/** What starting a controller by hand needs: an id and a code. */
export const controllerAdd: Command = {
  name: 'controller add',
  usage: ['<name>', 'a new agent controller and its device code: one use, 15 minutes'],
  options: {},
  positionals: ['<name>'],
  run: async ({ positionals: [name], api }) => {
    const made = madeSchema.parse(await api().call('POST', 'agent-controllers', { name }))
    const code = codeSchema.parse(
      await api().call('POST', `agent-controllers/${encodeURIComponent(made.externalId)}/device-code`, {}),
    )
    return {
      text: `AEMBIT_DEVICE_CODE=${code.device_code}\n\nagent controller ${made.name}, ${made.externalId}; the code is good until ${time(code.expires_at)}, once`,
      data: { ...made, ...code },
    }
  },
}
