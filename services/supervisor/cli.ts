#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { parseArgs, parseEnv } from 'node:util'
import { formatProblems, invalidConfigExit } from '../../shared/config/env.ts'
import type { ValkeySettings } from '../../shared/config/valkey-url.ts'
import { Fault } from '../../shared/faults.ts'
import { createLogger } from '../../shared/log.ts'
import { checkValkey } from '../../shared/valkey.ts'
import { version } from '../../shared/version.ts'
import { auditVerify } from './cli-audit.ts'
import { ask, OperatorUnreachable } from './cli-client.ts'
import { printStatus } from './cli-status.ts'
import { runDoctor } from './doctor/run.ts'
import { readConfiguration } from './environment.ts'
import { operatorSocketPath } from './operator.ts'
import { program, runGateway } from './run.ts'
import type { GatewayStatus } from './status.ts'

const usage = `${program} ${version}

  ${program} run                     run the gateway here (what the service unit does)
  ${program} status [--all] [--json] processes, readiness, certificate, policy, events; exit code 1 when not ready
  ${program} doctor [--json]         walks the way of an agent, names the first thing that is wrong and what to do; exit
                                          code 1 when something is
  ${program} restart <process>       front, sync, proxy (all workers) or proxy-<n>: replaced without a gap
  ${program} audit verify [--json]   proves that the audit trail of this gateway is whole; exit code 1 when it is not
  ${program} reload                  read the settings and certificates again
  ${program} --check [--json]        check the settings and the session store, print what counts; exit code 2
                                          when they are wrong
  ${program} --version

  --socket <path>   operator socket (else of AEMBIT_RUNTIME_DIR)

doctor:
  --token-file <path>      an access token to try; - is standard input; or in MCP_TOKEN
  --client-id <id> --client-secret-file <path>   fetches a token by client_credentials
  --ca <path>              PEM of a private authority that the certificates come from

Exit codes: 0 done, 1 refused or not ready, 2 wrong settings or usage, 3 no gateway answers.`

const exits = { done: 0, refused: 1, usage: invalidConfigExit, unreachable: 3 }

function settings():
  | { problems: string }
  | {
      rows: readonly { key: string; value: string }[]
      digest: string
      valkey: ValkeySettings | null
    } {
  const read = readConfiguration(process.env)
  return 'problems' in read
    ? { problems: formatProblems(program, read.problems) }
    : { rows: read.ok.printed, digest: read.ok.digest, valkey: read.ok.valkey }
}

async function check(json: boolean): Promise<number> {
  const read = settings()
  if ('problems' in read) {
    console.error(read.problems)
    return exits.usage
  }
  if (read.valkey) {
    try {
      await checkValkey(read.valkey, createLogger(program, 'off'))
    } catch (error) {
      console.error(`${program}: ${Fault.from(error).detail}`)
      return exits.usage
    }
  }
  if (json)
    console.log(
      JSON.stringify({
        settings: Object.fromEntries(read.rows.map((r) => [r.key, r.value])),
        digest: read.digest,
      }),
    )
  else {
    const width = Math.max(...read.rows.map(({ key }) => key.length))
    for (const { key, value } of read.rows) console.log(`${key.padEnd(width)}  ${value || '-'}`)
    console.log(`\nsettings are valid, digest ${read.digest}`)
  }
  return exits.done
}

/** The socket of the gateway that these settings would run; wrong settings must not hide a gateway that runs. */
function socketPath(): string {
  let fromFile: Record<string, string | undefined> = {}
  try {
    if (process.env.AEMBIT_ENV_FILE) fromFile = parseEnv(readFileSync(process.env.AEMBIT_ENV_FILE, 'utf8'))
  } catch {
    // The default folder is still worth a try, and the error to come names it.
  }
  const directory = fromFile.AEMBIT_RUNTIME_DIR || process.env.AEMBIT_RUNTIME_DIR || '/run/aembit_mcp_gateway'
  return operatorSocketPath(directory)
}

async function status(path: string, json: boolean, all: boolean): Promise<number> {
  const { body } = await ask(path, 'GET', '/v1/status')
  const answer = body as GatewayStatus
  console.log(json ? JSON.stringify(answer, null, 2) : printStatus(answer, Date.now(), all))
  return answer.ready ? exits.done : exits.refused
}

async function command(path: string, target: string, json: boolean): Promise<number> {
  const began = Date.now()
  const { body } = await ask(path, 'POST', target)
  const { problems } = body as { problems: string[] }
  if (json) console.log(JSON.stringify({ problems }))
  else if (problems.length === 0) console.log(`done in ${((Date.now() - began) / 1000).toFixed(1)} s`)
  else console.error(`${program}: refused:\n${problems.map((problem) => `  ${problem}`).join('\n')}`)
  return problems.length === 0 ? exits.done : exits.refused
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      all: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
      version: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false, short: 'h' },
      socket: { type: 'string' },
      'token-file': { type: 'string' },
      'client-id': { type: 'string' },
      'client-secret-file': { type: 'string' },
      ca: { type: 'string' },
    },
  })
  const [verb, what, ...rest] = positionals
  if (values.version) console.log(version)
  if (values.help) console.log(usage)
  if (values.version || values.help) return exits.done
  if (values.check && verb === undefined) return check(values.json)
  const path = values.socket ?? socketPath()
  if (verb === 'run' && what === undefined) return runGateway({ env: process.env })
  if (verb === 'status' && what === undefined) return status(path, values.json, values.all)
  if (verb === 'doctor' && what === undefined) {
    return runDoctor({
      env: process.env,
      socketPath: path,
      json: values.json,
      tokenFile: values['token-file'],
      clientId: values['client-id'],
      clientSecretFile: values['client-secret-file'],
      ca: values.ca,
      print: (text) => console.log(text),
    })
  }
  if (verb === 'audit' && what === 'verify' && rest.length === 0) {
    const whole = await auditVerify(path, values.json, (text) => console.log(text))
    return whole ? exits.done : exits.refused
  }
  if (verb === 'reload' && what === undefined) return command(path, '/v1/reload', values.json)
  if (verb === 'restart' && what !== undefined && rest.length === 0) {
    return command(path, `/v1/restart/${encodeURIComponent(what)}`, values.json)
  }
  console.error(usage)
  return exits.usage
}

try {
  process.exit(await main())
} catch (error) {
  console.error(`${program}: ${error instanceof Error ? error.message : String(error)}`)
  process.exit(error instanceof OperatorUnreachable ? exits.unreachable : exits.usage)
}
