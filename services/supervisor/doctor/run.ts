import { lookup } from 'node:dns/promises'
import { readFileSync } from 'node:fs'
import type { Env } from '../../../shared/config/env.ts'
import { ask as askOperator } from '../cli-client.ts'
import { readConfiguration } from '../environment.ts'
import type { GatewayStatus } from '../status.ts'
import { examine } from './doctor.ts'
import { printFinding, printVerdict } from './print.ts'
import type { Finding, Token } from './step.ts'

export interface DoctorOptions {
  readonly env: Env
  readonly socketPath: string
  readonly json: boolean
  /** Files; `-` is standard input. */
  readonly tokenFile?: string | undefined
  readonly clientId?: string | undefined
  readonly clientSecretFile?: string | undefined
  readonly ca?: string | undefined
  readonly print: (text: string) => void
}

/** Prints what is found, the first that is wrong last. Exit code 0: nothing failed, 1: something did. Throws for a file that can not be read. */
export async function runDoctor(options: DoctorOptions): Promise<number> {
  const { env, json, print } = options
  const read = readConfiguration(env)
  const token = tokenOf(options)
  if ('problems' in read) {
    const finding: Finding = {
      step: 'settings',
      verdict: 'failed',
      text: read.problems.map(({ key, message }) => `${key} ${message}`).join('; '),
      advice:
        'correct them, then aembit_mcp_gateway --check; are these the settings that the gateway runs with (AEMBIT_ENV_FILE)?',
    }
    print(
      json
        ? JSON.stringify({ healthy: false, first: finding, findings: [finding] }, null, 2)
        : printFinding(finding),
    )
    if (!json) print(printVerdict([finding]))
    return 1
  }
  const config = read.ok
  const url = new URL(config.gatewayUrl)
  const settings: Finding = { step: 'settings', verdict: 'ok', text: `valid; ${url.href}` }
  const tell = (finding: Finding): void => {
    if (!json) print(printFinding(finding))
  }
  tell(settings)
  const found = await examine(
    {
      config,
      url,
      ca: options.ca === undefined ? [] : [readFileSync(options.ca, 'utf8')],
      token,
      now: Date.now,
      lookup: async (name) => (await lookup(name, { all: true })).map(({ address }) => address),
      status: async () => (await askOperator(options.socketPath, 'GET', '/v1/status')).body as GatewayStatus,
    },
    tell,
  )
  const findings = [settings, ...found]
  const first = findings.find(({ verdict }) => verdict === 'failed')
  print(
    json
      ? JSON.stringify({ healthy: !first, first: first ?? null, findings }, null, 2)
      : printVerdict(findings),
  )
  return first ? 1 : 0
}

function tokenOf({ env, tokenFile, clientId, clientSecretFile }: DoctorOptions): Token | null {
  const text = (path: string): string => readFileSync(path === '-' ? 0 : path, 'utf8').trim()
  if (tokenFile !== undefined) return { kind: 'bearer', token: text(tokenFile) }
  if (clientId !== undefined && clientSecretFile !== undefined)
    return { kind: 'client', id: clientId, secret: text(clientSecretFile) }
  return env.MCP_TOKEN ? { kind: 'bearer', token: env.MCP_TOKEN.trim() } : null
}
