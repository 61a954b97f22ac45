import { readFile, rm } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { join } from 'node:path'
import { writeFileAtomic } from '../../shared/files.ts'
import { adminRequest } from './admin.ts'
import { firstLocalUser, type LocalUser } from './config.ts'
import { agentController, controlPlane, gateway, publicSocket, samples } from './launches.ts'
import { openLogFile } from './log-file.ts'
import type { Ports } from './ports.ts'
import { Problem } from './problem.ts'
import { type Exit, type Launch, launch, type Running } from './process.ts'
import { setScene } from './scene.ts'
import { lockState, makeRuntimeDir, openState, readOptional, type State } from './state.ts'

export interface WorldOptions {
  /** Absolute. Made where it is not there yet, reused where it is. */
  readonly stateDir: string
  /** Plain HTTP on loopback in place of HTTPS. */
  readonly http?: boolean
  /** Ports that were asked for; the rest are the documented ones, or any free one with `freePorts`. */
  readonly ports?: Partial<Ports>
  readonly freePorts?: boolean
  /** The control plane's YAML; control-plane.yaml of the state, generated at the first start. */
  readonly configPath?: string
  /** Who is in a generated configuration; ann@example.com with a random password. */
  readonly users?: readonly LocalUser[]
  /** Last say on a generated configuration. */
  readonly edit?: (yaml: string) => string
  readonly logLevel?: string
  readonly workers?: number
  /** Gives up the start. */
  readonly signal?: AbortSignal
  /** Last say on how a process is started: tests and the benchmark add flags and variables. */
  readonly adapt?: (launch: Launch) => Launch
}

export interface World {
  /** Of the MCP endpoint, e.g. https://localhost:8443/mcp. */
  readonly url: string
  readonly origin: string
  /** PEM of the development CA; null with plain HTTP. */
  readonly caPath: string | null
  readonly state: State
  readonly runtimeDir: string
  readonly ports: Ports
  readonly configPath: string
  /** Null where the configuration has no local user whose password it tells. */
  readonly user: LocalUser | null
  readonly adminToken: string
  readonly processes: ReadonlyMap<string, Running>
  /** A request of an administrator to the control plane. */
  admin(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<unknown>
  /** The first process that ended without being told to. */
  readonly died: Promise<Exit>
  /** Stops everything in order. Safe to call twice. */
  stop(): Promise<void>
}

/** The start was given up by its signal. */
export class Interrupted extends Error {}

const readyMs = 60_000
const stopGraceMs = 15_000

/**
 * Starts the whole appliance on loopback: control plane, sample servers, agent controller, gateway. Resolves when a
 * client can use it. Throws a Problem where a person has to change something; nothing is left running then.
 */
export async function startWorld(options: WorldOptions): Promise<World> {
  const state = await openState(options.stateDir)
  const unlock = await lockState(state)
  const started: Running[] = []
  let stopping: Promise<void> | undefined
  let runtimeDir: string | undefined
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      // Against the order of the start: what asks is gone before what answers.
      for (const running of [...started].reverse()) await running.stop(stopGraceMs)
      if (runtimeDir) await rm(runtimeDir, { recursive: true, force: true })
      await rm(join(state.dir, 'running.json'), { force: true })
      await unlock()
    })()
    return stopping
  }
  try {
    runtimeDir = await makeRuntimeDir(state)
    const scene = await setScene(options, state, runtimeDir)
    const start = (what: Launch): Running => {
      const running = launch(options.adapt?.(what) ?? what, openLogFile(join(state.logs, `${what.name}.log`)))
      started.push(running)
      return running
    }

    const plane = start(controlPlane(scene))
    const servers = samples(scene).map(start)
    const sockets = publicSocket(scene)
    await until(
      plane,
      options.signal,
      async () => (await adminRequest(sockets, 'GET', '/api/v1/health')).status === 200,
    )
    const adminToken = (await readFile(state.adminTokenPath, 'utf8')).trim()
    const admin = async (
      method: 'GET' | 'POST' | 'DELETE',
      path: string,
      body?: unknown,
    ): Promise<unknown> => {
      const answer = await adminRequest(sockets, method, path, adminToken, body)
      if (answer.status < 300) return answer.body
      throw new Error(
        `${method} ${path.split('?')[0]} answered ${answer.status}: ${JSON.stringify(answer.body)}`,
      )
    }
    await Promise.all(
      servers.map((server) =>
        until(server, options.signal, async () => server.said('listens on 127.0.0.1:')),
      ),
    )
    const identity = await controllerIdentity(state, admin)
    const controller = start(agentController(scene, identity.env))
    await until(controller, options.signal, () =>
      answers(`http://127.0.0.1:${scene.ports.controller}/health`, null),
    )
    await writeFileAtomic(controllerIdPath(state), `${identity.id}\n`)
    const edge = start(gateway(scene))
    const probe = `${scene.url.origin}/.well-known/oauth-protected-resource${scene.url.pathname}`
    await until(edge, options.signal, () => answers(probe, scene.caPath))

    const { url } = scene
    const told = { url: url.href, caPath: scene.caPath, configPath: scene.source }
    await writeFileAtomic(join(state.dir, 'running.json'), `${JSON.stringify(told)}\n`)
    return {
      url: url.href,
      origin: url.origin,
      caPath: scene.caPath,
      state,
      runtimeDir,
      ports: scene.ports,
      configPath: scene.source,
      user: (await firstLocalUser(scene.source)) ?? null,
      adminToken,
      processes: new Map(started.map((running) => [running.name, running])),
      admin,
      died: Promise.race(started.map((running) => running.ended)),
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

const controllerIdPath = (state: State): string => join(state.dir, 'agent-controller.id')

/** A device code of the admin API until the controller has registered once; afterwards its id. */
async function controllerIdentity(
  state: State,
  admin: World['admin'],
): Promise<{ id: string; env: Record<string, string> }> {
  const known = (await readOptional(controllerIdPath(state)))?.trim()
  if (known) return { id: known, env: { AEMBIT_AGENT_CONTROLLER_ID: known } }
  const made = await admin('POST', '/api/v1/agent-controllers', { name: 'quickstart' })
  const { externalId: id } = made as { externalId: string }
  const answer = await admin('POST', `/api/v1/agent-controllers/${id}/device-code`)
  return { id, env: { AEMBIT_DEVICE_CODE: (answer as { device_code: string }).device_code } }
}

const pollMs = 50

/** Waits until `check` is true; throws as soon as the process has ended, with what it said. */
async function until(
  running: Running,
  signal: AbortSignal | undefined,
  check: () => Promise<boolean>,
): Promise<void> {
  const deadline = Date.now() + readyMs
  let exit: Exit | undefined
  void running.ended.then((ended) => {
    exit = ended
  })
  for (;;) {
    if (await check().catch(() => false)) return
    if (exit) throw startFailure(running, exit)
    if (signal?.aborted) throw new Interrupted('stopped before it was ready')
    if (Date.now() > deadline) {
      throw new Error(`${running.name} was not ready within ${readyMs / 1000} s. ${lastLines(running)}`)
    }
    await new Promise((resolve) => setTimeout(resolve, pollMs))
  }
}

function startFailure(running: Running, exit: Exit): Error {
  // Exit code 2 is every process's way to say that its configuration or its port is the person's to change.
  if (exit.code === 2) return new Problem(running.errors() || lastLines(running))
  return new Error(
    `${running.name} ended (${exit.signal ?? `exit code ${exit.code}`}). ${lastLines(running)}`,
  )
}

export const lastLines = (running: Running): string =>
  `Its last lines, of ${running.log.path}:\n${running.log.tail(15)}`

/** Does this URL answer 200? Trusts the development CA alone. */
const answers = (url: string, caPath: string | null): Promise<boolean> =>
  (caPath ? readFile(caPath) : Promise.resolve(undefined)).then(
    (ca) =>
      new Promise<boolean>((resolve, reject) => {
        const request = url.startsWith('https:') ? httpsRequest : httpRequest
        const outgoing = request(url, { ...(ca ? { ca } : {}), timeout: 2000, agent: false }, (response) => {
          response.resume()
          resolve(response.statusCode === 200)
        })
        outgoing.on('timeout', () => outgoing.destroy(new Error('no answer')))
        outgoing.on('error', reject)
        outgoing.end()
      }),
  )
