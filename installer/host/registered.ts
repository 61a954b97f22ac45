import { get as httpGet, type IncomingMessage } from 'node:http'
import { get as httpsGet } from 'node:https'
import { layouts } from './layout.ts'
import { readKept, type Settings } from './settings.ts'

/** It is documented to take up to ten seconds. */
const waitMs = 10_000
const pollMs = 500

/**
 * Waits for the agent controller that was just started to become healthy, and says so where it does not: it runs, and
 * goes on trying, so that this is no reason to take the install back.
 */
export async function tellRegistration(): Promise<number> {
  const settings = readKept(layouts.aembit_agent_controller.envFile)
  const until = Date.now() + waitMs
  let state = ''
  while (state !== 'Healthy' && Date.now() < until) {
    state = await health(settings).catch((error: Error) => error.message)
    if (state !== 'Healthy') await new Promise((resolve) => setTimeout(resolve, pollMs))
  }
  if (state !== 'Healthy') {
    console.error(`install: aembit_agent_controller runs and is not registered (${state}): ${advice(state)}`)
    console.error('  its log: journalctl --namespace aembit_agent_controller -n 20')
  }
  return 0
}

const advice = (state: string): string =>
  state === 'Unregistered'
    ? 'its device code or its evidence was refused, or the control plane does not answer'
    : 'the control plane does not answer; it goes on trying'

/** `status` of its GET /health; with TLS under whatever name the certificate has. */
function health(settings: Settings): Promise<string> {
  const { TLS_PEM_PATH, AEMBIT_HTTP_PORT, AEMBIT_HTTPS_PORT, AEMBIT_HTTPS_LISTEN_ADDRESS } = settings
  const given = AEMBIT_HTTPS_LISTEN_ADDRESS ?? '127.0.0.1'
  const host = TLS_PEM_PATH && given !== '0.0.0.0' && given !== '::' ? given : '127.0.0.1'
  const port = TLS_PEM_PATH ? (AEMBIT_HTTPS_PORT ?? '5443') : (AEMBIT_HTTP_PORT ?? '5000')
  const options = { host, port, path: '/health', timeout: pollMs, headers: { host: 'localhost' } }
  return new Promise((resolve, reject) => {
    const answered = (response: IncomingMessage): void => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk.slice(0, 4096)
      })
      response.on('error', reject)
      response.on('end', () => resolve(/"status":"(\w+)"/.exec(text)?.[1] ?? 'no answer'))
    }
    // On this machine, to learn one word: nothing is sent that a wrong answerer could use.
    const sent = TLS_PEM_PATH
      ? httpsGet({ ...options, rejectUnauthorized: false }, answered)
      : httpGet(options, answered)
    sent.on('timeout', () => sent.destroy(new Error('no answer')))
    sent.on('error', reject)
  })
}
