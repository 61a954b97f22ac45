import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { GatewayConfig } from '../../shared/config/gateway.ts'
import type { Role } from '../../shared/ipc/contract.ts'
import { policyDir, spoolDir, successionPath } from './slices.ts'

/**
 * What each child may do beyond computing: Node's permission model (no programs, no threads, no native addons, files of
 * these paths alone), no code made from strings and no change of the language's own objects where it can be had, no
 * inspector by signal. It stands behind the unit's sandbox, which is the same for all children: this is what keeps one
 * child from another's secret. What was tried and what it costs: README, Hardening.
 */

/** A child's files besides its code. A path may end in `*`. */
interface Reach {
  readonly read: readonly string[]
  readonly write: readonly string[]
}

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Of the adapter there is none: it starts programs, and Node.js would put its own limits on those that are Node.js. */
const reaches: { readonly [R in Role]?: (config: GatewayConfig) => Reach } = {
  front: (config) => {
    const { tls } = config
    const common = [successionPath(config)]
    if (tls === null) return { read: common, write: [] }
    if (tls.source === 'files') return { read: [...common, tls.certChainPath, tls.privateKeyPath], write: [] }
    const files = [tls.eab?.hmacKeyPath, tls.caPath].filter((path) => typeof path === 'string')
    return { read: [...common, `${tls.dir}*`, ...files], write: [`${tls.dir}*`] }
  },
  proxy: (config) => {
    const { runtimeDir, geoipDatabasePath } = config
    const own = [`${spoolDir(config)}*`, join(runtimeDir, 'proxy-*'), join(runtimeDir, 'peer-*')]
    const geoip = geoipDatabasePath === null ? [] : [geoipDatabasePath]
    const read = [...own, successionPath(config), join(policyDir(config), 'snapshot-*'), ...geoip]
    return { read, write: own }
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
  const common = ['--disable-sigusr1', '--disable-proto=delete', ...noEval]
  if (instrumented) return common
  // The reflection that front makes certificates with adds to an intrinsic object; proxy pays for it with each request.
  const thawed = role === 'front' || role === 'proxy'
  if (!thawed) common.push('--frozen-intrinsics', '--disable-warning=ExperimentalWarning')
  const reach = reaches[role]?.(config)
  if (!reach) return common
  return [
    ...common,
    '--permission',
    ...[...code(role), ...reach.read].map((path) => `--allow-fs-read=${path}`),
    ...reach.write.map((path) => `--allow-fs-write=${path}`),
  ]
}
