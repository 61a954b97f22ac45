import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

export const revisions = ['2025-11-25', '2026-07-28'] as const
export type Revision = (typeof revisions)[number]

/** One scenario's outcome; without a check it did not come to an end. */
export interface Outcome {
  readonly scenario: string
  readonly required: boolean
  readonly passed: number
  /** Checks that the suite left out, since what they check is not advertised. */
  readonly skipped: number
  readonly warnings: readonly string[]
  readonly failures: readonly string[]
}

interface Check {
  readonly id: string
  readonly status: 'SUCCESS' | 'FAILURE' | 'WARNING' | 'SKIPPED' | 'INFO'
  readonly errorMessage?: string
}

export const home = fileURLToPath(
  new URL('../../node_modules/@modelcontextprotocol/conformance/', import.meta.url),
)
const scenarioMs = 30_000
const runMs = 600_000

/** Runs what a revision requires of servers, and what the suite only reports, against `url`. */
export const runSuite = (url: string, revision: Revision): Promise<Outcome[]> =>
  runLeg('server', revision, ['--url', url, '--timeout', String(scenarioMs)])

/** The other half: `command` is run once per scenario, as the client of a server of the suite. */
export const runClientSuite = (
  command: string,
  revision: Revision,
  env: Record<string, string>,
  only?: string,
): Promise<Outcome[]> =>
  // Scenarios wait for each other, so each may take as long as all.
  runLeg('client', revision, ['--command', command, '--timeout', String(runMs)], env, only)

async function runLeg(
  leg: 'server' | 'client',
  revision: Revision,
  args: readonly string[],
  env: Record<string, string> = {},
  only?: string,
): Promise<Outcome[]> {
  const dir = await mkdtemp(join(tmpdir(), 'conformance-'))
  try {
    const which = only ? ['--scenario', only, '--spec-version', revision] : ['--requirements', revision]
    await run([leg, ...args, ...which, '-o', dir], env)
    const required = parse(await readFile(join(home, 'requirements', `${revision}.yaml`), 'utf8')) as Record<
      typeof leg,
      string[]
    > & { not_scored: { scenario: string; leg: string }[] }
    const scored = required[leg]
    const unscored = required.not_scored.filter((row) => row.leg === leg).map(({ scenario }) => scenario)
    const checks = await readChecks(dir)
    const rows = [...scored, ...unscored].map((scenario, index) =>
      outcomeOf(scenario, index < scored.length, checks.get(scenario) ?? []),
    )
    return only ? rows.filter(({ scenario }) => scenario === only) : rows
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

export function outcomeOf(scenario: string, required: boolean, checks: readonly Check[]): Outcome {
  const of = (wanted: Check['status']): string[] =>
    checks.filter(({ status }) => status === wanted).map(({ id, errorMessage }) => `${id}: ${errorMessage}`)
  const passed = of('SUCCESS').length
  const skipped = of('SKIPPED').length
  const failed = checks.length === 0 ? ['it came to no end'] : of('FAILURE')
  const failures =
    failed.length > 0 ? [...failed, ...of('INFO').filter((text) => text.startsWith('the driver'))] : []
  return { scenario, required, passed, skipped, warnings: of('WARNING'), failures }
}

/** Each scenario leaves a folder that ends in `<scenario>-<time>`; `server-` stands in front of that leg's. */
export async function readChecks(dir: string): Promise<Map<string, Check[]>> {
  const found = new Map<string, Check[]>()
  for (const path of await readdir(dir, { recursive: true })) {
    const scenario = /^(?:server-)?(.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z\/checks\.json$/.exec(path)?.[1]
    if (!scenario) continue
    const checks = JSON.parse(await readFile(join(dir, path), 'utf8')) as Check[]
    const said = await readFile(join(dir, path, '../stdout.txt'), 'utf8').catch(() => '')
    found.set(
      scenario,
      said ? [...checks, { id: 'the driver said', status: 'INFO', errorMessage: said }] : checks,
    )
  }
  return found
}

async function run(args: readonly string[], env: Record<string, string>): Promise<void> {
  const child = spawn(process.execPath, [join(home, 'dist/index.js'), ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: runMs,
    env: { ...process.env, ...env },
  })
  let complaints = ''
  child.stderr.on('data', (chunk: Buffer) => {
    complaints = (complaints + chunk.toString('utf8')).slice(-4000)
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  // 1: something failed, which the checks tell better.
  if (code !== 0 && code !== 1) throw new Error(`the suite ended with ${code}:\n${complaints}`)
}
