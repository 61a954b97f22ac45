import { applicationNames } from './layout.ts'
import { plan, writePlan } from './plan.ts'
import { register } from './register.ts'
import { tellRegistration } from './registered.ts'

/**
 * What the shell script `install` asks of the bundled Node.js: `plan <release> <out> <application> …`, `register` and
 * `registered`. Exit code 2: problems, one per line on standard error.
 */
const [verb, ...rest] = process.argv.slice(2)

async function main(): Promise<number> {
  if (verb === 'register') return register()
  if (verb === 'registered') return tellRegistration()
  const [release, out, ...names] = rest
  const applications = applicationNames.filter((name) => names.includes(name))
  if (verb !== 'plan' || !release || !out || applications.length !== names.length) {
    console.error('usage: plan <release> <out> <application> …, register, or registered')
    return 1
  }
  const planned = await plan({ applications, release, env: process.env, hostRoot: '' })
  if ('problems' in planned) {
    for (const { key, message } of planned.problems) console.error(`  ${key}: ${message}`)
    return 2
  }
  writePlan(planned.files, out)
  return 0
}

process.exit(
  await main().catch((error: unknown) => {
    console.error(`install: ${verb}: ${error instanceof Error ? error.message : error}`)
    return 1
  }),
)
