import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { request as httpsRequest } from 'node:https'
import { join } from 'node:path'
import { freePort } from '../../rig/free-port.ts'
import { makeCertificate } from '../../supervisor/certificates.ts'

/**
 * Pebble, the ACME test server (Debian package `pebble`), and its DNS stand-in, both on loopback. Every name resolves
 * to 127.0.0.1; validations go to the two ports given.
 */
export interface Pebble {
  readonly directoryUrl: string
  /** PEM file that the server itself is trusted by. */
  readonly caPath: string
  /** PEM of the authority that signs. */
  root(): Promise<string>
  /** PEM of its intermediate and of the key of that. */
  intermediate(): Promise<{ cert: string; key: string }>
  stop(): Promise<void>
  /** The ACME server alone; names still resolve. */
  kill(): Promise<void>
  /** Runs again on the same port, with nothing remembered. */
  start(): Promise<void>
}

export interface PebbleOptions {
  readonly httpPort: number
  readonly tlsPort: number
  /** Key id to base64url HMAC key: external account binding is required. */
  readonly eab?: Readonly<Record<string, string>>
  readonly validitySecs?: number
  readonly ocspResponderUrl?: string
}

export async function startPebble(dir: string, options: PebbleOptions): Promise<Pebble> {
  const [acme, management, dns, dnsManagement] = await Promise.all([
    freePort(),
    freePort(),
    freePort(),
    freePort(),
  ])
  const own = makeCertificate(dir, 'pebble')
  const config = join(dir, 'pebble.json')
  writeFileSync(
    config,
    JSON.stringify({
      pebble: {
        listenAddress: `127.0.0.1:${acme}`,
        managementListenAddress: `127.0.0.1:${management}`,
        certificate: own.certChainPath,
        privateKey: own.privateKeyPath,
        httpPort: options.httpPort,
        tlsPort: options.tlsPort,
        ocspResponderURL: options.ocspResponderUrl ?? '',
        externalAccountBindingRequired: options.eab !== undefined,
        externalAccountMACKeys: options.eab ?? {},
        certificateValidityPeriod: options.validitySecs ?? 7_776_000,
      },
    }),
  )
  const resolver = await run('pebble-challtestsrv', [
    ...['-defaultIPv4', '127.0.0.1', '-defaultIPv6', ''],
    ...['-dns01', `127.0.0.1:${dns}`, '-management', `127.0.0.1:${dnsManagement}`],
    ...['-http01', '', '-https01', '', '-tlsalpn01', ''],
  ])
  let server: ChildProcess | undefined
  const fetchPem = (path: string): Promise<string> => get(`https://127.0.0.1:${management}${path}`, own.pem)
  const start = async (): Promise<void> => {
    server = await run('pebble', ['-config', config, '-dnsserver', `127.0.0.1:${dns}`])
    await listening(() => get(`https://127.0.0.1:${acme}/dir`, own.pem))
  }
  await start()
  return {
    directoryUrl: `https://127.0.0.1:${acme}/dir`,
    caPath: own.certChainPath,
    root: () => fetchPem('/roots/0'),
    intermediate: async () => ({
      cert: await fetchPem('/intermediates/0'),
      key: await fetchPem('/intermediate-keys/0'),
    }),
    start,
    kill: () => end(server),
    stop: async () => {
      await end(server)
      await end(resolver)
    },
  }
}

export async function end(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

async function run(command: string, args: string[]): Promise<ChildProcess> {
  const child = spawn(command, args, {
    stdio: 'ignore',
    env: { ...process.env, PEBBLE_VA_NOSLEEP: '1', PEBBLE_WFE_NONCEREJECT: '20' },
  })
  await Promise.race([
    once(child, 'spawn'),
    once(child, 'error').then(([error]) => {
      throw new Error(`${command} does not start; install the Debian package pebble (${error.message})`)
    }),
  ])
  return child
}

/** Tries until the program answers; it tells nobody when it listens. */
async function listening(probe: () => Promise<unknown>): Promise<void> {
  const deadline = Date.now() + 20_000
  for (;;) {
    try {
      await probe()
      return
    } catch (error) {
      if (Date.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

function get(url: string, ca: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(url, { ca, timeout: 5_000 }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk) => {
        text += chunk
      })
      response.on('end', () => resolve(text))
    })
    request.on('error', reject)
    request.end()
  })
}
