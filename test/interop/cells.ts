import { setTimeout as pause } from 'node:timers/promises'
import type { Access, Conversation, Subject } from './clients.ts'
import type { Peer } from './peers/peer.ts'

export const operations = [
  'connect',
  'list',
  'call',
  'read',
  'prompt',
  'progress',
  'cancel',
  'elicit',
] as const
export type Operation = (typeof operations)[number]

/** What became of one operation of one client with one server. */
export type Outcome =
  | { readonly kind: 'works' }
  | { readonly kind: 'unable'; readonly reason: string }
  | { readonly kind: 'fails'; readonly reason: string }

export interface Cell {
  readonly client: string
  readonly server: string
  readonly operation: Operation
  readonly outcome: Outcome
  readonly ms: number
}

const cellLimitMs = 60_000
const noticeMs = 10_000

function expect(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what)
}

/** Each throws where the client does not see what the server did. */
const trials: Readonly<
  Record<Exclude<Operation, 'connect'>, (talk: Conversation, peer: Peer, person: string) => Promise<void>>
> = {
  list: async (talk, { id, dialect }) => {
    const tools = await talk.tools()
    for (const { tool } of [dialect.echo, dialect.steps, dialect.wait]) {
      expect(tools.includes(`${id}_${tool}`), `${id}_${tool} is not listed among ${tools.length} tools`)
    }
  },
  call: async (talk, { id, dialect: { echo } }) => {
    const words = `words for ${id}`
    const said = await talk.call(`${id}_${echo.tool}`, { [echo.argument]: words })
    expect(said.includes(words), `the answer was ${said.slice(0, 200)}`)
  },
  read: async (talk, { dialect: { resource } }) => {
    const said = await talk.read(resource.uri)
    expect(said.includes(resource.text), `the resource reads ${said.slice(0, 200)}`)
  },
  prompt: async (talk, { id, dialect: { prompt } }) => {
    const said = await talk.prompt(`${id}_${prompt.name}`, prompt.args)
    expect(said.includes(prompt.text), `the prompt says ${said.slice(0, 200)}`)
  },
  progress: async (talk, { id, dialect: { steps } }) => {
    const seen: number[] = []
    await talk.call(`${id}_${steps.tool}`, steps.args, { onProgress: (progress) => seen.push(progress) })
    const rising = seen.every((value, index) => index === 0 || value > seen[index - 1]!)
    expect(seen.length >= 2 && rising, `progress was ${JSON.stringify(seen)}`)
  },
  cancel: async (talk, peer) => {
    const { wait } = peer.dialect
    const before = peer.cancellations()
    const abort = new AbortController()
    const ended = talk.call(`${peer.id}_${wait.tool}`, wait.args, { signal: abort.signal }).then(
      () => 'answered',
      () => 'given up',
    )
    // The call has to have reached the server, which says nothing: its answer would be the end of it.
    await pause(500)
    abort.abort()
    expect((await ended) === 'given up', 'the cancelled call was answered')
    const deadline = Date.now() + noticeMs
    while (peer.cancellations() === before) {
      expect(Date.now() < deadline, 'the server was not told')
      await pause(20)
    }
  },
  elicit: async (talk, { id, dialect: { ask } }, person) => {
    const said = await talk.call(`${id}_${ask.tool}`, {})
    expect(said.includes(person), `the answer was ${said.slice(0, 200)}`)
  },
}

const failure = (error: unknown): Outcome => ({
  kind: 'fails',
  reason: (error instanceof Error ? error.message : String(error)).replace(/\s+/g, ' ').slice(0, 300),
})

async function within<T>(work: Promise<T>): Promise<T> {
  const limit = new AbortController()
  try {
    const late = pause(cellLimitMs, undefined, { signal: limit.signal }).then(() => {
      throw new Error(`no end after ${cellLimitMs / 1000} s`)
    })
    return await Promise.race([work, late])
  } finally {
    limit.abort()
  }
}

/** Every operation of one client with one server, over a connection of its own. */
export async function tryPair(access: Access, client: Subject, peer: Peer): Promise<Cell[]> {
  const person = `Person of ${client.id}`
  const cell = (operation: Operation, outcome: Outcome, ms = 0): Cell => ({
    client: client.id,
    server: peer.id,
    operation,
    outcome,
    ms,
  })
  const attempt = async (operation: Operation, work: () => Promise<void>): Promise<Cell> => {
    const startedAt = performance.now()
    const took = (): number => performance.now() - startedAt
    try {
      await within(work())
      return cell(operation, { kind: 'works' }, took())
    } catch (error) {
      return cell(operation, failure(error), took())
    }
  }

  let talk: Conversation | undefined
  const connected = await attempt('connect', async () => {
    talk = await client.open(access, person)
    expect(talk.version === client.version, `agreed on ${talk.version}, wanted ${client.version}`)
  })
  const cells = [connected]
  for (const operation of operations) {
    if (operation === 'connect') continue
    const reason = client.unable[operation]
    if (reason) cells.push(cell(operation, { kind: 'unable', reason }))
    else if (!talk) cells.push(cell(operation, { kind: 'fails', reason: 'there is no connection' }))
    else cells.push(await attempt(operation, () => trials[operation](talk!, peer, person)))
  }
  await talk?.close()
  return cells
}
