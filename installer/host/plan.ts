import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { dirname, join } from 'node:path'
import type { Problem } from '../../shared/config/env.ts'
import { type GatewayConfig, parseGatewayEnv } from '../../shared/config/gateway.ts'
import { type ApplicationName, configFile, layouts } from './layout.ts'
import { probeController, probePort, probeStore, unitIsActive } from './probes.ts'
import { formatSettings, mergeSettings, readKept, type Settings, settingsOf, unwritable } from './settings.ts'
import { joined, routed, unroutable } from './together.ts'
import { fillUnit, tlsValues, unitValues } from './units.ts'

export interface PlanOptions {
  /** In the order of their start. */
  readonly applications: readonly ApplicationName[]
  /** The unpacked tarball. */
  readonly release: string
  readonly env: NodeJS.ProcessEnv
  /** Prefix of the host's paths; empty but for tests. */
  readonly hostRoot: string
}

export interface PlannedFile {
  readonly path: string
  readonly mode: string
  /** root:<group> */
  readonly group: string
  readonly content: string
}

export type Plan = { readonly files: readonly PlannedFile[] } | { readonly problems: readonly Problem[] }

/**
 * What an install has to write outside /opt, from the environment and what the last install kept; or everything that
 * stands against it. Changes nothing.
 */
export async function plan(options: PlanOptions): Promise<Plan> {
  const parts = await Promise.all(options.applications.map((name) => planOne(name, options)))
  const problems = parts.flatMap((part) => part.problems)
  return problems.length > 0 ? { problems } : { files: parts.flatMap((part) => part.files()) }
}

interface Part {
  readonly problems: readonly Problem[]
  readonly files: () => PlannedFile[]
}

async function planOne(name: ApplicationName, options: PlanOptions): Promise<Part> {
  const { applications, release, hostRoot } = options
  const layout = layouts[name]
  const together = applications.length > 1
  const all = settingsOf(name, options.env)
  const given = together ? routed(name, all) : all
  const kept = readKept(join(hostRoot, layout.envFile))
  const installed = Object.keys(kept).length > 0
  const configPath = options.env.AEMBIT_CONFIG_PATH ?? existing(join(hostRoot, configFile))
  const settings = mergeSettings({ ...(together ? joined(name, configPath) : {}), ...kept }, given)
  const problems = [
    ...unwritable(settings),
    ...fixedFolders(name, given),
    ...(together && name === 'aembit_agent_controller' ? unroutable(all) : []),
  ]
  const checked = Object.fromEntries(Object.entries(settings).filter(([key]) => !(key in layout.fixed)))

  let config: GatewayConfig | undefined
  if (name === 'aembit_mcp_gateway') {
    const read = parseGatewayEnv(checked)
    if ('problems' in read) problems.push(...read.problems)
    else config = read.ok
    problems.push(...(await probeGateway(config, checked, together)))
  } else {
    problems.push(...(await ownCheck(name, checked, release)))
    if (name === 'aembit_agent_controller' && !installed)
      problems.push(...(await probeControllerPorts(checked)))
  }
  return {
    problems: problems.filter(
      ({ key, message }, at) => problems.findIndex((p) => p.key === key && p.message === message) === at,
    ),
    files: () => [
      ...units(name, settings, config, release),
      {
        path: layout.envFile,
        mode: '0640',
        group: name,
        content: formatSettings(name, settings),
      },
      ...(name === 'aembit_control_plane' && given.AEMBIT_CONFIG_PATH
        ? [
            {
              path: configFile,
              mode: '0640',
              group: name,
              content: readFileSync(given.AEMBIT_CONFIG_PATH, 'utf8'),
            },
          ]
        : []),
    ],
  }
}

const existing = (path: string): string | undefined => {
  try {
    readFileSync(path)
    return path
  } catch {
    return undefined
  }
}

const fixedFolders = (name: ApplicationName, given: Settings): Problem[] =>
  Object.entries(layouts[name].fixed).flatMap(([key, path]) =>
    given[key] === undefined || given[key] === path
      ? []
      : [{ key, message: `is ${path} under systemd; mount the storage you want there` }],
  )

/** Ports that the running gateway has are its own; a controller that is about to be installed need not answer yet. */
async function probeGateway(
  config: GatewayConfig | undefined,
  settings: Settings,
  together: boolean,
): Promise<Problem[]> {
  const url = settings.AEMBIT_AGENT_CONTROLLER_URL
  const [serving, listening] = await Promise.all([
    unitIsActive('aembit_mcp_gateway.service'),
    unitIsActive('aembit_mcp_gateway.socket'),
  ])
  // Where another setting is wrong, the documented ports and the controller are looked at all the same.
  const { address, https, http, metrics } = config?.listen ?? {
    address: '0.0.0.0',
    https: Number(settings.AEMBIT_HTTPS_PORT ?? 443),
    http: Number(settings.AEMBIT_HTTP_PORT ?? 80),
    metrics: Number(settings.AEMBIT_METRICS_PORT ?? 9091),
  }
  const wanted: [key: string, port: number, ours: boolean][] = [
    ['AEMBIT_HTTPS_PORT', https, listening],
    ['AEMBIT_HTTP_PORT', http, listening],
    ['AEMBIT_METRICS_PORT', metrics, serving],
  ]
  const probes = wanted
    .filter(([, port, ours]) => !ours && Number.isInteger(port) && port > 0 && port < 65536)
    .map(([key, port]) => probePort(key, address, port))
  if (url && URL.canParse(url) && !together) probes.push(probeController('AEMBIT_AGENT_CONTROLLER_URL', url))
  if (config?.valkey) probes.push(probeStore('AEMBIT_VALKEY_URL', config.valkey))
  return (await Promise.all(probes)).flat()
}

async function probeControllerPorts(settings: Settings): Promise<Problem[]> {
  if (await unitIsActive('aembit_agent_controller.service')) return []
  const tls = Boolean(settings.TLS_PEM_PATH)
  const probe = (key: string, address: string | undefined, port: number): Promise<Problem[]> =>
    isIP(address ?? '127.0.0.1') && port > 0 && port < 65536
      ? probePort(key, address ?? '127.0.0.1', port)
      : Promise.resolve([])
  const probes = [
    tls
      ? probe(
          'AEMBIT_HTTPS_PORT',
          settings.AEMBIT_HTTPS_LISTEN_ADDRESS,
          Number(settings.AEMBIT_HTTPS_PORT ?? 5443),
        )
      : probe('AEMBIT_HTTP_PORT', undefined, Number(settings.AEMBIT_HTTP_PORT ?? 5000)),
  ]
  if (!/^(false|0|no|off)$/i.test(settings.AEMBIT_METRICS_ENABLED ?? '')) {
    const port = Number(settings.AEMBIT_METRICS_PORT ?? (tls ? 9091 : 9090))
    probes.push(probe('AEMBIT_METRICS_PORT', settings.AEMBIT_METRICS_LISTEN_ADDRESS, port))
  }
  return (await Promise.all(probes)).flat()
}

const services = {
  aembit_control_plane: 'control-plane',
  aembit_agent_controller: 'agent-controller',
} as const

/** The application's own `--check`: exit code 0, or lines `  KEY: what is wrong`. */
function ownCheck(name: keyof typeof services, settings: Settings, release: string): Promise<Problem[]> {
  const main = join(release, 'applications', name, 'services', services[name], 'main.js')
  return new Promise((resolve) => {
    const env = { ...settings, PATH: process.env.PATH }
    execFile(process.execPath, [main, '--check'], { env, timeout: 30_000 }, (error, _stdout, stderr) => {
      if (!error) return resolve([])
      const rows = [...stderr.matchAll(/^ {2}([^\s:]+): (.*)$/gm)].map(([, key = '', message = '']) => ({
        key,
        message,
      }))
      resolve(rows.length > 0 ? rows : [{ key: name, message: stderr.trim() || String(error) }])
    })
  })
}

const world = 'root'

function units(
  name: ApplicationName,
  settings: Settings,
  config: GatewayConfig | undefined,
  release: string,
): PlannedFile[] {
  const folder = join(release, 'systemd')
  const values = unitValues(name, settings, config, readFileSync(join(folder, 'stdio-servers.conf'), 'utf8'))
  const tls = name === 'aembit_mcp_gateway' ? tlsValues(settings) : undefined
  return readdirSync(folder)
    .sort()
    .flatMap((file): PlannedFile[] => {
      const base = file.replace(/^journald@/, '').replace(/\.\w+$/, '')
      const isTls = base === 'aembit_mcp_gateway_tls'
      const mine =
        base === name || (name === 'aembit_control_plane' && base.startsWith(`${name}_`)) || (isTls && tls)
      if (!mine) return []
      const template = readFileSync(join(folder, file), 'utf8')
      const content = fillUnit(template, isTls ? (tls ?? {}) : values)
      return [{ path: placeOf(file), mode: '0644', group: world, content }]
    })
}

const placeOf = (file: string): string => {
  if (file.endsWith('.sysusers')) return `/etc/sysusers.d/${file.replace(/\.sysusers$/, '.conf')}`
  return file.startsWith('journald@') ? `/etc/systemd/${file}` : `/etc/systemd/system/${file}`
}

/** Writes the planned files below `out`, with `<mode> <group> <path>` lines in `out/list`. */
export function writePlan(files: readonly PlannedFile[], out: string): void {
  for (const { path, content } of files) {
    mkdirSync(dirname(join(out, 'files', path)), { recursive: true, mode: 0o700 })
    writeFileSync(join(out, 'files', path), content, { mode: 0o600 })
  }
  writeFileSync(
    join(out, 'list'),
    files.map(({ mode, group, path }) => `${mode} ${group} ${path}\n`).join(''),
  )
}
