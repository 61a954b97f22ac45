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

const home = fileURLToPath(new URL('../../node_modules/@modelcontextprotocol/conformance/', import.meta.url))
const scenarioMs = 30_000
const runMs = 300_000

/** Runs what a revision requires of servers, and what the suite only reports, against `url`. */
export async function runSuite(url: string, revision: Revision): Promise<Outcome[]> {
  const dir = await mkdtemp(join(tmpdir(), 'conformance-'))
  try {
    await run([
      'server',
      '--url',
      url,
      '--requirements',
      revision,
      '--timeout',
      String(scenarioMs),
      '-o',
      dir,
    ])
    const { server, not_scored } = parse(
      await readFile(join(home, 'requirements', `${revision}.yaml`), 'utf8'),
    ) as { server: string[]; not_scored: { scenario: string; leg: string }[] }
    const unscored = not_scored.filter(({ leg }) => leg === 'server').map(({ scenario }) => scenario)
    const checks = await readChecks(dir)
    return [...server, ...unscored].map((scenario, index) =>
      outcomeOf(scenario, index < server.length, checks.get(scenario) ?? []),
    )
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

function outcomeOf(scenario: string, required: boolean, checks: readonly Check[]): Outcome {
  const of = (wanted: Check['status']): string[] =>
    checks.filter(({ status }) => status === wanted).map(({ id, errorMessage }) => `${id}: ${errorMessage}`)
  const passed = of('SUCCESS').length
  const skipped = of('SKIPPED').length
  const failures = checks.length === 0 ? ['it came to no end'] : of('FAILURE')
  return { scenario, required, passed, skipped, warnings: of('WARNING'), failures }
}

/** Each scenario leaves a folder `server-<scenario>-<time>`. */
async function readChecks(dir: string): Promise<Map<string, Check[]>> {
  const found = new Map<string, Check[]>()
  for (const folder of await readdir(dir)) {
    const scenario = /^server-(.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z$/.exec(folder)?.[1]
    const text = scenario && (await readFile(join(dir, folder, 'checks.json'), 'utf8').catch(() => ''))
    if (scenario && text) found.set(scenario, JSON.parse(text) as Check[])
  }
  return found
}

async function run(args: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [join(home, 'dist/index.js'), ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: runMs,
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
