import { z } from 'zod'
import { type Command, table, time } from './command.ts'

const keysSchema = z.object({
  entities: z.array(
    z.object({
      kid: z.string(),
      algorithm: z.string(),
      state: z.string(),
      createdAt: z.string(),
      retiredAt: z.string().nullable(),
    }),
  ),
})

const show = (answer: unknown): string => {
  const { entities } = keysSchema.parse(answer)
  const rows = entities.map(({ kid, algorithm, state, createdAt, retiredAt }) => [
    kid,
    algorithm,
    state,
    time(createdAt),
    time(retiredAt),
  ])
  return table([['key', 'algorithm', 'state', 'made', 'retired'], ...rows])
}

export const keysList: Command = {
  name: 'keys list',
  usage: ['', 'the keys that access tokens are signed with'],
  options: {},
  run: async ({ api }) => {
    const data = await api().call('GET', 'signing-keys')
    return { text: show(data), data }
  },
}

export const keysRotate: Command = {
  name: 'keys rotate',
  usage: ['[--compromised]', 'rotate now; --compromised: tokens under the former keys end at once'],
  options: { compromised: { type: 'boolean' } },
  run: async ({ values, api }) => {
    const compromised = values.compromised === true
    const data = await api().call('POST', 'signing-keys/rotate', { compromised })
    const said = compromised
      ? 'The former keys verify nothing any more: every agent gets a new token with its refresh token or signs in again.'
      : 'The next key is announced and takes over by itself; tokens under the former one live until they expire.'
    return { text: `${said}\n\n${show(data)}`, data }
  },
}
