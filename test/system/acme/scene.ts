import type { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import type { Test } from 'tap'
import { AcmeCertificates } from '../../../services/front/acme/certificates.ts'
import { createRedirectServer } from '../../../services/front/redirect.ts'
import type { AcmeSettings } from '../../../shared/config/gateway-tls.ts'
import type { Logger } from '../../../shared/log.ts'
import { freePort } from '../../rig/free-port.ts'
import { ManualClock } from '../../rig/manual-clock.ts'
import { type PebbleOptions, startPebble } from './pebble.ts'

export const name = 'gw.example.test'
export const day = 86_400_000
/** An order of a busy machine takes seconds. */
const idleMs = 60_000
/** Of five seconds each: a dozen orders that fail and their waits. */
const maxSteps = 1_000

interface Line {
  readonly level: string
  readonly msg: string
  readonly notice?: string
}

/** The source itself, on a clock that the test moves, against a real ACME server. */
export async function scene(t: Test, options: Partial<PebbleOptions> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'acme-'))
  const httpPort = freePort()
  const pebble = await startPebble(dir, { httpPort, tlsPort: 1, ...options })
  const sources: AcmeCertificates[] = []
  const redirect = createRedirectServer('https://gw.example.test', (path) =>
    sources.map((source) => source.challenges.http(path)).find((answer) => answer !== undefined),
  )
  redirect.listen(httpPort, '127.0.0.1')
  await once(redirect, 'listening')
  t.teardown(async () => {
    redirect.close()
    await Promise.all(sources.map((source) => source.close()))
    await pebble.stop()
    rmSync(dir, { recursive: true, force: true })
  })
  const lines: Line[] = []
  const log: Logger = pino(
    { level: 'debug', formatters: { level: (level) => ({ level }) } },
    { write: (line: string) => void lines.push(JSON.parse(line)) },
  )
  const clock = new ManualClock(Date.now())
  const served: X509Certificate[] = []
  const open = async (changes: Partial<AcmeSettings> = {}): Promise<AcmeCertificates> => {
    const source = await AcmeCertificates.open(
      {
        directoryUrl: pebble.directoryUrl,
        domains: [name],
        contact: [],
        challenge: 'http-01',
        eab: null,
        caPath: pebble.caPath,
        dir: join(dir, 'acme'),
        ...changes,
      },
      {
        clock,
        log,
        // No wait comes to the five minutes that an order may take, by which `idle` knows one.
        random: () => 0.37,
        http: true,
        onChange: ({ leaf }) => void served.push(leaf),
      },
    )
    sources.push(source)
    return source
  }
  const state = (): string =>
    `${served.length} served, waits ${clock.waits.join()}, last of the log: ${JSON.stringify(lines.slice(-3))}`
  /** Until the source sleeps again: what it does between is real work of real processes. */
  const idle = async (): Promise<void> => {
    const deadline = Date.now() + idleMs
    do {
      await new Promise((resolve) => setTimeout(resolve, 20))
      if (Date.now() > deadline) throw new Error(`never idle: ${state()}`)
    } while (clock.waits.length < sources.length || clock.waits.some((ms) => ms === 5 * 60_000))
  }
  /** Until so many certificates were served; time moves, so that an order that failed is tried again. */
  const issued = async (count: number): Promise<void> => {
    for (let step = 0; step < maxSteps; step++) {
      const enough = served.length >= count
      await idle()
      if (enough) return
      clock.advance(5_000)
    }
    throw new Error(`not issued: ${state()}`)
  }
  const close = async (source: AcmeCertificates): Promise<void> => {
    sources.splice(sources.indexOf(source), 1)
    await source.close()
  }
  return { dir, pebble, clock, lines, served, open, close, issued, idle }
}
