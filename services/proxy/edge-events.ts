import { randomUUID } from 'node:crypto'
import { basename } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import type { ChildContext } from '../../shared/ipc/child.ts'
import type { Credentials } from './credentials.ts'
import type { Measures } from './measures.ts'
import { EdgeRecorder } from './record.ts'
import { chained } from './record-chain.ts'
import { Spool } from './record-spool.ts'
import { ServerAddresses } from './server-addresses.ts'

/** What a worker records: events, tied to each other, in segments on disk; and how many of them were lost. */
export class EdgeEvents {
  readonly addresses = new ServerAddresses()
  readonly recorder: EdgeRecorder
  readonly #spool: Spool
  readonly #measures: Measures
  #lost = 0

  constructor(
    { config, log }: Pick<ChildContext<'proxy'>, 'config' | 'log'>,
    clock: Clock,
    measures: Measures,
    credentials: Pick<Credentials, 'authorization'>,
  ) {
    this.#measures = measures
    this.#spool = new Spool({ dir: config.spoolDir, owner: spoolOwner(config), clock, log })
    this.recorder = new EdgeRecorder({
      append: chained(randomUUID(), (line) => this.#spool.append(line)),
      clock,
      random: randomUUID,
      mcpPath: config.mcpPath,
      publicPort: config.publicPort,
      serverAddress: (host) => this.addresses.of(host),
      authorization: (principal, serverId) => credentials.authorization(principal, serverId),
    })
  }

  get dropped(): number {
    return this.#spool.dropped
  }

  start(): Promise<void> {
    return this.#spool.start()
  }

  countLost(): void {
    this.#measures.eventsLost.add(this.dropped - this.#lost, 'dropped')
    this.#lost = this.dropped
  }

  async close(): Promise<void> {
    await this.#spool.close()
    this.countLost()
  }
}

/** `<worker>-<generation>`, as the socket's name has them: two processes never share a segment. */
function spoolOwner(config: ChildContext<'proxy'>['config']): string {
  const generation = /\.(\d+)\.sock$/.exec(basename(config.socketPath))?.[1] ?? String(process.pid)
  return `${config.worker}-${generation}`
}
