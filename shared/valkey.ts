import { Redis } from 'iovalkey'
import type { Clock } from './clock.ts'
import type { ValkeySettings } from './config/valkey-url.ts'
import { Fault } from './faults.ts'
import type { Logger } from './log.ts'

export type Valkey = Redis

const connectMs = 3_000
const commandMs = 1_000
/** Waits between the attempts of one operation, ms. */
const waits = [100, 200] as const

/** One connection, kept up for as long as it is not closed. A command fails at once while there is none. */
export function createValkey(settings: ValkeySettings, log: Logger): Valkey {
  const { host, port, db, tls, username, password, shown } = settings
  const client = new Redis({
    host,
    port,
    db,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls ? { tls: { servername: host } } : {}),
    connectionName: 'aembit_mcp_gateway',
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: connectMs,
    commandTimeout: commandMs,
    retryStrategy: (times) => Math.min(100 * 2 ** Math.min(times, 6), 3_000),
  })
  // What goes wrong is told by the operations; without a listener the library prints it.
  client.on('error', (error: Error) => log.debug({ store: shown, detail: error.message }, 'session store'))
  return client
}

/** Runs an operation up to three times, again on connection errors alone: what the store itself refuses stays refused. */
export async function withRetry<T>(clock: Clock, operation: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await operation()
    } catch (error) {
      const wait = waits[attempt]
      if (wait === undefined || (error instanceof Error && error.name === 'ReplyError')) throw error
      await clock.sleep(wait)
    }
  }
}

/** All commands of a pipeline or transaction, or the first error of them. */
export async function all(pipeline: {
  exec(): Promise<[error: Error | null, result: unknown][] | null>
}): Promise<unknown[]> {
  const results = await pipeline.exec()
  if (!results) throw new Error('the transaction was discarded')
  return results.map(([error, result]) => {
    if (error) throw error
    return result
  })
}

/** What a store says that is not ready yet. */
const passing = /^(LOADING|MASTERDOWN|BUSY|CLUSTERDOWN|TRYAGAIN)\b/

/**
 * Whether the store takes us. Throws with why not, `session.store` where it does not answer, `config.invalid` where it
 * says no; the password is in no message.
 */
export async function checkValkey(settings: ValkeySettings, log: Logger): Promise<void> {
  const client = createValkey(settings, log)
  // The library rejects with "Connection is closed." and says here what closed it.
  let cause: Error | undefined
  client.on('error', (error: Error) => {
    cause = error
  })
  try {
    await client.connect()
    await client.ping()
  } catch (error) {
    const why = cause?.message ?? (error instanceof Error ? error.message : String(error))
    const saysNo = [cause, error].some((e) => e instanceof Error && e.name === 'ReplyError')
    throw new Fault(saysNo && !passing.test(why) ? 'config.invalid' : 'session.store', {
      detail: `AEMBIT_VALKEY_URL: the session store at ${settings.shown} does not take us (${why}); start it, or correct or remove the setting`,
    })
  } finally {
    client.disconnect()
  }
}
