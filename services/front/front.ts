import type { Server } from 'node:http'
import { systemClock } from '../../shared/clock.ts'
import type { TlsFiles } from '../../shared/config/tls-files.ts'
import { Fault } from '../../shared/faults.ts'
import type { ChildContext, RunningChild } from '../../shared/ipc/child.ts'
import type { ConfigOf } from '../../shared/ipc/contract.ts'
import { createLogger } from '../../shared/log.ts'
import { createInterceptor } from './acme/intercept.ts'
import { Stapling } from './certificates/stapling.ts'
import { Listener, listenOn } from './listener.ts'
import { type OpenedSource, openCertificates } from './open-certificates.ts'
import { type ChallengeAnswer, createRedirectServer } from './redirect.ts'
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
  const orders = context.meter.counter('aembit_mcp_gateway_acme_orders_total')
  const stapling = new Stapling({ clock, log })
  let listener: Listener | undefined
  const serve = (tls: TlsFiles): void => {
    listener?.setTls(tls)
    stapling.follow(tls)
  }
  const open = (tls: NonNullable<ConfigOf['front']['tls']>): Promise<OpenedSource> =>
    openCertificates(tls, config.listeners.http !== null, {
      clock,
      log,
      random: Math.random,
      onChange: serve,
      onOrder: (outcome) => orders.inc(outcome),
    })
  let certificates = config.tls && (await open(config.tls))
  let settings = config.tls

  const upstreams = new Upstreams({ clock, waitMs: config.proxyWaitMs })
  const challenges = () => certificates?.challenges ?? null
  listener = new Listener(
    {
      tls: certificates?.source.tls ?? null,
      maxConnections: config.maxConnections,
      handshakeTimeoutMs: config.handshakeTimeoutMs,
      limits: { idleMs, lingerMs },
    },
    {
      upstreams,
      log,
      staple: () => stapling.response,
      intercept: createInterceptor(challenges, config.handshakeTimeoutMs),
    },
  )
  if (certificates) stapling.follow(certificates.source.tls)
  const { counts } = listener
  await listener.listen(config.listeners.https.fd)
  context.check('front.https', 'running')
  const redirect =
    config.listeners.http &&
    (await startRedirect(config.origin, config.listeners.http.fd, (path) => challenges()?.http(path)))
  if (redirect) context.check('front.redirect', 'running')

  let told: string | undefined
  const report = (): void => {
    const source = certificates?.source
    if (source) {
      const verdict = judge(source.tls, source.notice ?? stapling.problem, clock.now())
      const line = `${verdict.status} ${verdict.fault?.detail}`
      if (line !== told) context.check('front.certificate', verdict.status, verdict.fault)
      told = line
    }
    context.stats({
      ...counts,
      ...(source ? { certificateExpires: expiry(source.tls).toISOString(), ...source.figures } : {}),
    })
  }
  report()
  const timer = setInterval(report, statsEveryMs).unref()

  return {
    successionPath: config.successionPath,
    command: (message) => {
      if (message.type === 'proxies') upstreams.set(message.sockets)
      else listener.broke(message.socket)
    },
    reconfigure: async (next) => {
      refuseOtherListeners(config, next)
      if (next.tls && JSON.stringify(next.tls) !== JSON.stringify(settings)) {
        const before = certificates
        certificates = await open(next.tls)
        settings = next.tls
        serve(certificates.source.tls)
        await before?.source.close()
      } else certificates?.source.reload()
      log.level = createLogger('front', next.logLevel).level
      report()
      log.info(
        { certificateExpires: certificates && expiry(certificates.source.tls) },
        'configuration applied',
      )
    },
    drain: async (deadlineMs) => {
      clearInterval(timer)
      stapling.close()
      // Its successor orders from here on; both answer validations until this one stops to accept.
      const closed = certificates?.source.close()
      redirect?.close()
      const left = await listener.drain(deadlineMs, (ms) => clock.sleep(ms))
      await closed
      return left
    },
  }
}

async function startRedirect(origin: string, fd: number, challenge: ChallengeAnswer): Promise<Server> {
  const server = createRedirectServer(origin, challenge)
  await listenOn(server, fd, 'http')
  return server
}

const expiry = (tls: TlsFiles): Date => new Date(tls.leaf.validTo)

/** An expired certificate fails the check; one that is served but wants attention runs with a warning. */
function judge(
  tls: TlsFiles,
  notice: string | null,
  now: number,
): { status: 'running' | 'failing'; fault?: Fault } {
  const expired = expiry(tls).getTime() <= now
  if (!expired && notice === null) return { status: 'running' }
  const detail = notice ?? `the certificate expired on ${tls.leaf.validTo}`
  return { status: expired ? 'failing' : 'running', fault: new Fault('certificate.pending', { detail }) }
}

/** Sockets and the choice of TLS are made once; a change of them is a new process. */
function refuseOtherListeners(now: ConfigOf['front'], next: ConfigOf['front']): void {
  if ((now.tls === null) !== (next.tls === null)) {
    throw new Fault('config.invalid', { detail: 'TLS can not be turned on or off while running' })
  }
}
