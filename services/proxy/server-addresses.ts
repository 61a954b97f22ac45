import { buildConnector } from 'undici'

/** Hosts are those of configured servers; a bound all the same. */
const maxHosts = 10_000

/** Which address each host was last connected to, for the audit trail: names alone do not say who answered. */
export class ServerAddresses {
  readonly #last = new Map<string, string>()

  /** Undefined where there was no connection yet. */
  of(host: string): string | undefined {
    return this.#last.get(host)
  }

  /** undici's own way to connect, which tells us of each connection. */
  connector(options: buildConnector.BuildOptions): buildConnector.connector {
    const connect = buildConnector(options)
    return (to, done) =>
      connect(to, (...result) => {
        const address = result[1]?.remoteAddress
        if (address !== undefined) this.#note(to.hostname.replace(/^\[|\]$/g, ''), address)
        done(...result)
      })
  }

  #note(host: string, address: string): void {
    if (this.#last.size >= maxHosts && !this.#last.has(host)) this.#last.clear()
    this.#last.set(host, address)
  }
}
