import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import type { Env, Problem } from '../../shared/config/env.ts'
import { type ApplicationName, layouts } from './layout.ts'

export type Settings = Readonly<Record<string, string>>

/** Two of which one at most is set: giving one takes the other back. */
const exclusive = [
  ['AEMBIT_DEVICE_CODE', 'AEMBIT_AGENT_CONTROLLER_ID'],
  ['AEMBIT_ACME_DIRECTORY_URL', 'AEMBIT_TLS_CERT_CHAIN_PATH'],
  ['AEMBIT_ACME_DIRECTORY_URL', 'AEMBIT_TLS_PRIVATE_KEY_PATH'],
  ['AEMBIT_OIDC_TOKEN', 'AEMBIT_OIDC_TOKEN_PATH'],
] as const
const acmePrefix = 'AEMBIT_ACME_'

/** The settings in an environment: `AEMBIT_…` and the few documented names without it. Empty counts as absent. */
export const settingsOf = (name: ApplicationName, env: Env): Settings =>
  Object.fromEntries(
    Object.entries(env).filter(
      (entry): entry is [string, string] =>
        Boolean(entry[1]) && (entry[0].startsWith('AEMBIT_') || layouts[name].others.includes(entry[0])),
    ),
  )

/** What the last install wrote, with the paths as the operator gave them. None: nothing is installed. */
export function readKept(path: string): Settings {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw error
  }
  const sources = [...text.matchAll(/^#from (\w+=.*)$/gm)].map(([, line = '']) => line).join('\n')
  return { ...(parseEnv(text) as Settings), ...(parseEnv(sources) as Settings) }
}

export function mergeSettings(kept: Settings, given: Settings): Settings {
  const merged = { ...kept, ...given }
  for (const [one, other] of exclusive) {
    if (given[one] && !given[other]) delete merged[other]
    if (given[other] && !given[one]) delete merged[one]
  }
  // Without a directory each of them is refused.
  const files = given.AEMBIT_TLS_CERT_CHAIN_PATH || given.AEMBIT_TLS_PRIVATE_KEY_PATH
  if (files && !given.AEMBIT_ACME_DIRECTORY_URL)
    for (const key of Object.keys(kept)) if (key.startsWith(acmePrefix) && !given[key]) delete merged[key]
  return merged
}

/** What neither systemd nor Node.js would read as it was meant. */
export const unwritable = (settings: Settings): Problem[] =>
  Object.entries(settings)
    .filter(([, value]) => /["'`\\\n\r]/.test(value))
    .map(([key]) => ({ key, message: 'can not hold quotes, backslashes or line breaks' }))

/** The file of settings. Lines `#from KEY=…` keep what the operator gave where the service is told another path. */
export function formatSettings(name: ApplicationName, settings: Settings): string {
  const { brought } = layouts[name]
  const lines = Object.entries(settings)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([key, value]) => {
      const told = brought[key]
      return told === undefined ? [line(key, value)] : [`#from ${line(key, value)}`, line(key, told)]
    })
  return [
    `# Settings of ${name}, as given to its last install. Edit a value and reload the service, or install again with`,
    '# the variable set. Files on a line that begins with #from are brought to the service; to change such a path,',
    '# install again.',
    '',
    ...lines,
    '',
  ].join('\n')
}

const line = (key: string, value: string): string => `${key}=${/[\s#]/.test(value) ? `"${value}"` : value}`
