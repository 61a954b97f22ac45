import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { parseDocument } from 'yaml'
import { anyFreePort } from '../../installer/quickstart/ports.ts'
import { Browser } from '../control-plane/identity/browser.ts'
import { signInAndAllow } from '../control-plane/identity/world.ts'
import { startRig, users } from '../rig/world.ts'
import { home, type Outcome, outcomeOf, readChecks } from './suite.ts'

/** What the suite has for authorization servers. It scores none of them; here each is required. */
export const authorizationScenarios = [
  'authorization-server-metadata-endpoint',
  'authorization-code-grant',
] as const
const runMs = 120_000

/**
 * The suite's authorization scenarios against the whole appliance: a person signs in and consents in a scripted browser
 * wherever the suite prints a link for one.
 */
export async function runAuthorization(): Promise<Outcome[]> {
  const rig = await startRig({
    logLevel: 'warn',
    edit: (yaml) => {
      const document = parseDocument(yaml)
      const client = { clientId: 'conformance', redirectUris: ['http://127.0.0.1/callback'] }
      document.set('authorizationServer', document.createNode({ clients: [client] }))
      return document.toString({ lineWidth: 0 })
    },
  })
  const dir = await mkdtemp(join(tmpdir(), 'conformance-'))
  try {
    setDefaultCACertificates([...getCACertificates('default'), readFileSync(rig.caPath!, 'utf8')])
    const client = ['--client-id', 'conformance', '--resource', rig.url, '-p', String(await anyFreePort())]
    // In one run: the code grant goes on with the metadata that the first scenario found.
    await run(['authorization', '--url', rig.origin, '-o', dir, ...client], rig.caPath!, rig.origin)
    const checks = await readChecks(dir)
    return authorizationScenarios.map((scenario) => outcomeOf(scenario, true, find(checks, scenario)))
  } finally {
    await rig.end()
    await rm(dir, { recursive: true, force: true })
  }
}

/** The suite names the folder of a scenario with or without what it is about before it. */
function find<T>(checks: ReadonlyMap<string, readonly T[]>, scenario: string): readonly T[] {
  return [...checks].find(([name]) => name === scenario || name.endsWith(`-${scenario}`))?.[1] ?? []
}

async function run(args: readonly string[], caPath: string, origin: string): Promise<void> {
  const child = spawn(process.execPath, [join(home, 'dist/index.js'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: runMs,
    env: { ...process.env, NODE_EXTRA_CA_CERTS: caPath },
  })
  let said = ''
  let visited = false
  const look = (chunk: Buffer): void => {
    said = (said + chunk.toString('utf8')).slice(-20_000)
    const link = /https:\/\/[^\s"'<>]+[?&]response_type=[^\s"'<>]+/.exec(said)?.[0]
    // A link may come in two pieces: its line has to be over.
    if (!link || visited || !said.slice(said.indexOf(link) + link.length).includes('\n')) return
    visited = true
    void visit(link, origin).catch((error: unknown) => {
      said += String(error)
      child.kill()
    })
  }
  child.stdout.on('data', look)
  child.stderr.on('data', look)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code !== 0 && code !== 1) throw new Error(`the suite ended with ${code}:\n${said.slice(-4000)}`)
}

/** The person opens the link, signs in, allows, and their browser goes where it is sent: to the suite's callback. */
async function visit(link: string, origin: string): Promise<void> {
  const { email, password } = users.ann
  const answer = await signInAndAllow(new Browser(), link, email, password)
  if (answer.location === null || answer.location.startsWith(origin)) {
    throw new Error(`signing in ended at ${answer.url} (${answer.status})`)
  }
  await (await fetch(answer.location)).text()
}
