import { closeSync } from 'node:fs'
import net, { isIPv6 } from 'node:net'
import type { GatewayConfig } from '../../shared/config/gateway.ts'
import { Fault } from '../../shared/faults.ts'
import { inheritedFds } from '../../shared/listen-fds.ts'

/** A socket that this process owns and children listen on: it never accepts here. */
export interface OwnedSocket {
  readonly fd: number
  readonly address: string
  readonly port: number
  close(): void
}

export interface Listeners {
  readonly https: OwnedSocket
  readonly http: OwnedSocket | null
  /** systemd's: they outlive this process, and another one gets them. */
  readonly inherited: boolean
  close(): void
}

/** The piece of node:net's own listen path that binds and goes no further. */
interface BoundHandle {
  readonly fd: number
  getsockname(out: { address?: string; port?: number }): number
  close(): void
}
type CreateServerHandle = (address: string, port: number, family: 4 | 6) => BoundHandle | number

/**
 * Binds without listening. Throws Fault `listen.failed` whose detail names the address and `variable`.
 *
 * `_createServerHandle` is not public API. The public ones all listen at once, and a listening socket in this
 * process accepts: clients would hang in the supervisor. Should a later Node.js drop it, systemd's sockets
 * (LISTEN_FDS) remain.
 */
export function bindTcp(address: string, port: number, variable: string): OwnedSocket {
  const create = (net as unknown as { _createServerHandle?: CreateServerHandle })._createServerHandle
  if (typeof create !== 'function') {
    throw new Fault('listen.failed', {
      detail: `this Node.js (${process.version}) can not bind a socket without listening; start the gateway from a systemd socket unit`,
    })
  }
  const handle = create(address, port, isIPv6(address) ? 6 : 4)
  if (typeof handle === 'number') throw bindFault(handle, address, port, variable)
  const name: { address?: string; port?: number } = {}
  // libuv keeps a failed bind for later; asking for the name brings it out.
  const error = handle.getsockname(name)
  if (error !== 0) {
    handle.close()
    throw bindFault(error, address, port, variable)
  }
  return { fd: handle.fd, address, port: name.port ?? port, close: () => handle.close() }
}

const errno = { EADDRINUSE: -98, EACCES: -13, EADDRNOTAVAIL: -99 }

function bindFault(error: number, address: string, port: number, variable: string): Fault {
  const reason =
    error === errno.EADDRINUSE
      ? `is taken by another process; stop it or set ${variable}`
      : error === errno.EACCES
        ? `needs more rights; use a systemd socket unit, CAP_NET_BIND_SERVICE, or set ${variable} above 1023`
        : error === errno.EADDRNOTAVAIL
          ? 'is no address of this machine; set AEMBIT_LISTEN_ADDRESS'
          : `can not be bound (errno ${-error}); set ${variable}`
  return new Fault('listen.failed', { detail: `${formatAddress(address, port)} ${reason}` })
}

export const formatAddress = (address: string, port: number): string =>
  isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`

/** systemd's sockets where there are any, else sockets bound here. Throws Fault `listen.failed`. */
export function openListeners(
  listen: GatewayConfig['listen'],
  env: Readonly<Record<string, string | undefined>>,
  pid = process.pid,
): Listeners {
  const inherited = inheritedFds(env, pid, ['https', 'http'])
  const open: OwnedSocket[] = []
  const own = (name: 'https' | 'http', port: number, variable: string): OwnedSocket => {
    const fd = inherited.get(name)
    const socket =
      fd === undefined
        ? bindTcp(listen.address, port, variable)
        : { fd, address: 'systemd', port, close: () => closeSync(fd) }
    open.push(socket)
    return socket
  }
  const close = (): void => {
    for (const socket of open.splice(0)) socket.close()
  }
  try {
    const https = own('https', listen.https, 'AEMBIT_HTTPS_PORT')
    const http = listen.http === 0 ? null : own('http', listen.http, 'AEMBIT_HTTP_PORT')
    return { https, http, inherited: inherited.has('https'), close }
  } catch (error) {
    close()
    throw error
  }
}
