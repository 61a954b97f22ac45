import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { GatewayConfig } from '../../shared/config/gateway.ts'
import type { Role } from '../../shared/ipc/contract.ts'
import { policyDir, spoolDir } from './slices.ts'

/**
 * What each child may do beyond computing: Node's permission model (no programs, no threads, no native addons, files of
 * these paths alone), no code made from strings where it can be had, no inspector by signal. It stands behind the unit's sandbox, which is
 * the same for all children: this is what keeps one child from another's secret.
 */

/** A child's files besides its code. A path may end in `*`. */
interface Reach {
  readonly read: readonly string[]
  readonly write: readonly string[]
}

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Of the adapter there is none: it starts programs, and Node.js would put its own limits on those that are Node.js. */
const reaches: { readonly [R in Role]?: (config: GatewayConfig) => Reach } = {
  front: ({ tls }) => {
    if (tls === null) return { read: [], write: [] }
    if (tls.source === 'files') return { read: [tls.certChainPath, tls.privateKeyPath], write: [] }
    const files = [tls.eab?.hmacKeyPath, tls.caPath].filter((path) => typeof path === 'string')
    return { read: [`${tls.dir}*`, ...files], write: [`${tls.dir}*`] }
  },
  proxy: (config) => {
    const { runtimeDir, geoipDatabasePath } = config
    const own = [`${spoolDir(config)}*`, join(runtimeDir, 'proxy-*'), join(runtimeDir, 'peer-*')]
    const geoip = geoipDatabasePath === null ? [] : [geoipDatabasePath]
    return { read: [...own, join(policyDir(config), 'snapshot-*'), ...geoip], write: own }
  },
  sync: (config) => {
    const own = [`${policyDir(config)}*`, `${spoolDir(config)}*`, join(config.runtimeDir, 'sync.*')]
    const { enrolmentSecretPath } = config
    return { read: [...own, ...(enrolmentSecretPath === null ? [] : [enrolmentSecretPath])], write: own }
  },
}

const code = (role: Role): string[] =>
  ['package.json', 'node_modules/*', 'shared/*', `services/${role}/*`].map((path) => join(root, path))

/** Flags of Node.js for a child of this role. Equal for equal settings. */
export function confinement(role: Role, config: GatewayConfig, instrumented = false): string[] {
  // The router of proxy's HTTP server compiles its routes.
  const noEval = role === 'proxy' ? [] : ['--disallow-code-generation-from-strings']
  const common = ['--disable-sigusr1', ...noEval]
  const reach = instrumented ? undefined : reaches[role]?.(config)
  if (!reach) return common
  return [
    ...common,
    '--permission',
    ...[...code(role), ...reach.read].map((path) => `--allow-fs-read=${path}`),
    ...reach.write.map((path) => `--allow-fs-write=${path}`),
  ]
}
