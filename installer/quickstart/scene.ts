import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { writeFileAtomic } from '../../shared/files.ts'
import { controlPlaneYaml, ensureConfig, withGatewayUrl } from './config.ts'
import { ensureDevelopmentTls } from './development-ca.ts'
import type { Scene } from './launches.ts'
import { anyFreePort, freePortFrom, type Ports, requireFree } from './ports.ts'
import { Problem } from './problem.ts'
import { keepFile, newPassword, readOptional, type State } from './state.ts'
import type { WorldOptions } from './world.ts'

export interface PlacedScene extends Scene {
  /** The configuration file that the person edits; `configPath` may be a copy with another address. */
  readonly source: string
  /** Null with plain HTTP. */
  readonly caPath: string | null
}

export const documentedPorts = (http: boolean): Ports => ({
  gateway: http ? 8080 : 8443,
  redirect: http ? 0 : 8080,
  controller: 5000,
  controllerMetrics: 9090,
  metrics: 9091,
  notes: 8451,
  weather: 8452,
  everything: 8453,
})

/** Decides addresses and writes what a first start needs. */
export async function setScene(
  options: WorldOptions,
  state: State,
  runtimeDir: string,
): Promise<PlacedScene> {
  const http = options.http ?? false
  const ports = await choosePorts(options, state, http)
  await requireFree(ports)
  const url = new URL(`${http ? 'http' : 'https'}://localhost:${ports.gateway}/mcp`)
  const tls = await ensureDevelopmentTls(state.tls)
  await keepFile(state.weatherKeyPath, () => randomBytes(24).toString('base64url'))
  const source = options.configPath ?? join(state.dir, 'control-plane.yaml')
  if (options.configPath === undefined) {
    const users = options.users ?? [{ email: 'ann@example.com', name: 'Ann', password: newPassword() }]
    const { weatherKeyPath } = state
    const { edit = (yaml) => yaml } = options
    const made = { gatewayUrl: url.href, users, ports, weatherKeyPath }
    await ensureConfig(source, () => edit(controlPlaneYaml(made)))
  }
  const text = await readOptional(source)
  if (text === undefined) throw new Problem(`${source}: there is no such file`)
  const moved = withGatewayUrl(text, url.href)
  const configPath = moved === undefined ? source : join(runtimeDir, 'control-plane.yaml')
  if (moved !== undefined) await writeFileAtomic(configPath, moved)
  return {
    state,
    runtimeDir,
    ports,
    configPath,
    url,
    tls: http ? null : tls,
    logLevel: options.logLevel ?? 'info',
    workers: options.workers ?? 1,
    source,
    caPath: http ? null : tls.caPath,
  }
}

/** The samples' ports stand in the configuration, so they are chosen once and kept. */
async function choosePorts(options: WorldOptions, state: State, http: boolean): Promise<Ports> {
  const wanted: Ports = { ...documentedPorts(http), ...options.ports }
  const kept = JSON.parse((await readOptional(state.portsPath)) ?? '{}') as Partial<Ports>
  const sampleNames = ['notes', 'weather', 'everything'] as const
  if (options.freePorts) {
    for (const name of Object.keys(wanted) as (keyof Ports)[]) {
      if (wanted[name] !== 0 && options.ports?.[name] === undefined) wanted[name] = await anyFreePort()
    }
  }
  const taken = new Set(Object.values(wanted))
  for (const name of sampleNames) {
    const port =
      kept[name] ?? (options.freePorts ? wanted[name] : await freePortFrom(wanted[name], new Set()))
    wanted[name] = taken.has(port) && port !== wanted[name] ? await freePortFrom(port, taken) : port
    taken.add(wanted[name])
  }
  const samplePorts = Object.fromEntries(sampleNames.map((name) => [name, wanted[name]]))
  await writeFileAtomic(state.portsPath, `${JSON.stringify(samplePorts)}\n`)
  return wanted
}
