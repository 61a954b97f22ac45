import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openLogFile } from '../../installer/quickstart/log-file.ts'
import { anyFreePort } from '../../installer/quickstart/ports.ts'
import { type Launch, launch } from '../../installer/quickstart/process.ts'

export interface SecondGateway {
  /** Where it listens; it answers to the same URL as the first. */
  readonly port: number
  stop(): Promise<void>
}

/** One more gateway of the same name beside the one of a rig, as behind a load balancer. `first`: its launch. */
export async function startSecondGateway(first: Launch, caPath: string): Promise<SecondGateway> {
  const folder = await mkdtemp(join(tmpdir(), 'gw2-'))
  const [port, redirect, metrics] = [await anyFreePort(), await anyFreePort(), await anyFreePort()]
  const running = launch(
    {
      ...first,
      name: 'gateway-2',
      env: {
        ...first.env,
        AEMBIT_HTTPS_PORT: String(port),
        AEMBIT_HTTP_PORT: String(redirect),
        AEMBIT_METRICS_PORT: String(metrics),
        AEMBIT_RUNTIME_DIR: join(folder, 'run'),
        AEMBIT_STATE_DIR: join(folder, 'state'),
      },
    },
    openLogFile(join(folder, 'gateway-2.log')),
  )
  const stop = async (): Promise<void> => {
    await running.stop(15_000)
    await rm(folder, { recursive: true, force: true })
  }
  const host = new URL(String(first.env?.AEMBIT_MCP_GATEWAY_URL)).host
  const ca = readFileSync(caPath)
  const deadline = Date.now() + 60_000
  while (!(await answers(port, host, ca))) {
    if (Date.now() > deadline) {
      const said = running.log.tail(15)
      await stop()
      throw new Error(`the second gateway was not ready: ${said}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return { port, stop }
}

const answers = (port: number, host: string, ca: Buffer): Promise<boolean> =>
  new Promise((resolve) => {
    const path = '/.well-known/oauth-protected-resource/mcp'
    const options = { host: 'localhost', port, path, ca, headers: { host }, agent: false, timeout: 2_000 }
    request(options, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
      .on('timeout', function (this: { destroy(): void }) {
        this.destroy()
      })
      .on('error', () => resolve(false))
      .end()
  })
