import type { Server } from 'node:http'
import { systemClock } from '../../shared/clock.ts'
import type { TlsFiles } from '../../shared/config/tls-files.ts'
import { Fault } from '../../shared/faults.ts'
import type { ChildContext, RunningChild } from '../../shared/ipc/child.ts'
import type { ConfigOf } from '../../shared/ipc/contract.ts'
import { createLogger } from '../../shared/log.ts'
import { Listener, listenOn } from './listener.ts'
import { createRedirectServer } from './redirect.ts'
import { loadTls } from './tls.ts'
import { Upstreams } from './upstreams.ts'

/**
 * A connection without a byte either way is given up after this long. Longer than any wait for a server
 * (AEMBIT_MCP_GATEWAY_TIMEOUT allows 1 h), and proxy has shorter limits for each thing it waits for.
 */
const idleMs = 3_900_000
const lingerMs = 5_000
const statsEveryMs = 1_000

/** Puts listeners on the inherited sockets. Throws Fault `listen.failed` or `config.invalid`. */
export async function startFront(context: ChildContext<'front'>): Promise<RunningChild<'front'>> {
  const { config, log } = context
  const clock = systemClock
  let tls = config.tls && loadTls(config.tls)
  const upstreams = new Upstreams({ clock, waitMs: config.proxyWaitMs })
  const listener = new Listener(
    {
      tls,
      maxConnections: config.maxConnections,
      handshakeTimeoutMs: config.handshakeTimeoutMs,
      limits: { idleMs, lingerMs },
    },
    { upstreams, log },
  )
  await listener.listen(config.listeners.https.fd)
  context.check('front.https', 'running')
  const redirect = config.listeners.http && (await startRedirect(config.origin, config.listeners.http.fd))
  if (redirect) context.check('front.redirect', 'running')

  let expired: boolean | undefined
  const report = (): void => {
    if (tls && isExpired(tls) !== expired) {
      expired = isExpired(tls)
      reportCertificate(context, tls, expired)
    }
    context.stats({ ...listener.counts, ...(tls ? { certificateExpires: expiry(tls).toISOString() } : {}) })
  }
  report()
  const timer = setInterval(report, statsEveryMs).unref()

  return {
    command: ({ sockets }) => upstreams.set(sockets),
    reconfigure: async (next) => {
      refuseOtherListeners(config, next)
      if (next.tls) {
        const files = loadTls(next.tls)
        listener.setTls(files)
        tls = files
      }
      log.level = createLogger('front', next.logLevel).level
      report()
      log.info({ certificateExpires: tls && expiry(tls) }, 'configuration applied')
    },
    drain: async (deadlineMs) => {
      clearInterval(timer)
      redirect?.close()
      return listener.drain(deadlineMs, (ms) => clock.sleep(ms))
    },
  }
}

async function startRedirect(origin: string, fd: number): Promise<Server> {
  const server = createRedirectServer(origin)
  await listenOn(server, fd, 'http')
  return server
}

const expiry = (tls: TlsFiles): Date => new Date(tls.leaf.validTo)

const isExpired = (tls: TlsFiles): boolean => expiry(tls).getTime() <= Date.now()

function reportCertificate(context: ChildContext<'front'>, tls: TlsFiles, expired: boolean): void {
  const fault = new Fault('config.invalid', { detail: `the certificate expired on ${tls.leaf.validTo}` })
  context.check('front.certificate', expired ? 'failing' : 'running', expired ? fault : undefined)
}

/** Sockets and the choice of TLS are made once; a change of them is a new process. */
function refuseOtherListeners(now: ConfigOf['front'], next: ConfigOf['front']): void {
  if ((now.tls === null) !== (next.tls === null)) {
    throw new Fault('config.invalid', { detail: 'TLS can not be turned on or off while running' })
  }
}
