import { once } from 'node:events'
import type { Server } from 'node:http'
import { Fault } from '../../shared/faults.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

/** With TLS the documented port of the controller's metrics is also the default of the gateway's. */
const gatewayMetricsPort = 9091

/** Runs `bind`. Throws `listen.failed` with one sentence that names the address and the variable that sets it. */
export async function listening(
  { host, port }: Address,
  variable: string,
  bind: () => Promise<unknown>,
): Promise<void> {
  try {
    await bind()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    const why = code === 'EADDRINUSE' ? 'is in use by another program' : `can not be bound (${code})`
    throw new Fault('listen.failed', {
      detail: `${host}:${port} ${why}; set ${variable} to another port${port === gatewayMetricsPort ? ' (the metrics of a gateway on this machine have this one)' : ''}`,
      cause: error,
    })
  }
}

export const bindServer = async (server: Server, address: Address): Promise<void> => {
  server.listen(address)
  // Rejects with the server's 'error', too.
  await once(server, 'listening')
}
