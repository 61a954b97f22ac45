import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createAgent, type Era } from './agent.ts'
import { firstLocalUser } from './config.ts'
import { runTry } from './try-steps.ts'

/** `npm run try`: a scripted agent goes through the running quickstart. Exit code 1 names the step that failed. */
const text = { type: 'string' } as const
const { values } = parseArgs({
  options: { state: text, config: text, url: text, era: { ...text, default: 'auto' }, account: text },
})
const root = fileURLToPath(new URL('../..', import.meta.url))
const eras: readonly string[] = ['auto', 'legacy', 'modern']

try {
  if (!eras.includes(values.era)) throw new Error(`--era is one of ${eras.join(', ')}`)
  const state = resolve(
    process.env.INIT_CWD ?? '.',
    values.state ?? process.env.AEMBIT_QUICKSTART_DIR ?? join(root, '.quickstart'),
  )
  const running = await readRunning(state)
  const user = await firstLocalUser(values.config ?? running.configPath)
  if (!user) throw new Error(`${running.configPath} has no local user whose password it tells`)
  const agent = createAgent({
    url: values.url ?? running.url,
    caPath: running.caPath,
    person: { ...user, account: values.account ?? user.email },
    clientName: 'npm run try',
    era: values.era as Era,
  })
  try {
    const adminToken = (await readFile(join(state, 'control-plane', 'admin-token'), 'utf8')).trim()
    await runTry({ agent, url: values.url ?? running.url, adminToken, print: (line) => console.log(line) })
  } finally {
    await agent.close()
  }
} catch (error) {
  console.error(`\nfailed: ${error instanceof Error ? error.message : error}`)
  process.exitCode = 1
}

/** What the running quickstart tells about itself. */
async function readRunning(
  state: string,
): Promise<{ url: string; caPath: string | null; configPath: string }> {
  try {
    return JSON.parse(await readFile(join(state, 'running.json'), 'utf8'))
  } catch {
    throw new Error(`nothing runs in ${state}: start it with \`npm start\` in another terminal`)
  }
}
