import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import { ensurePrivateDir } from '../../shared/files.ts'
import { inheritedFds } from '../../shared/listen-fds.ts'
import type { Logger } from '../../shared/log.ts'
import { registerConfiguration } from './api/configuration.ts'
import { registerSigningKeys } from './api/signing-keys.ts'
import { createKeyRotation } from './authorization/key-rotation.ts'
import { type Config, loadConfig } from './config/load.ts'
import { type CredentialPlane, createCredentialPlane } from './credential-plane.ts'
import { createSealer } from './credentials/sealer.ts'
import type { Environment } from './environment.ts'
import { createFleetPlane } from './fleet-plane.ts'
import { createIdentityPlane, type IdentityPlane } from './identity-plane.ts'
import { createCircumstances } from './policy/issuance.ts'
import { createPlaces } from './policy/places.ts'
import { createPublicApp } from './public-app.ts'
import { listenPrivately, refuseTaken } from './sockets.ts'
import { openDatabase } from './store/database.ts'
import { lockState } from './store/lock.ts'
import { loadMasterKey } from './store/master-key.ts'
import { opens } from './store/sealed-columns.ts'

export interface ControlPlaneDeps {
  readonly environment: Environment
  readonly clock: Clock
  readonly log: Logger
  readonly version: string
}

export interface ControlPlane {
  readonly publicSocket: string
  readonly machineSocket: string
  /** Reads the YAML again and puts it in force whole. Throws Fault and keeps what runs. */
  reload(): Promise<void>
  /** Answers what is under way, then closes sockets and database. */
  stop(): Promise<void>
}

const sweepEveryMs = 10 * 60_000
const renewEveryMs = 10_000

/** Builds the whole control plane and opens its two sockets. Throws Fault `config.invalid` or `listen.failed`. */
export async function startControlPlane(deps: ControlPlaneDeps): Promise<ControlPlane> {
  const { environment, clock, log, version } = deps
  const { configPath, stateDir, runtimeDir } = environment
  const load = (
    warn = (line: string): void => log.warn({ event: 'config.warning' }, line),
  ): Promise<Config> => loadConfig(configPath, { warn })
  const first = await load()

  await ensurePrivateDir(stateDir)
  const publicSocket = join(runtimeDir, 'public.sock')
  const machineSocket = join(runtimeDir, 'machine.sock')
  const inherited = inheritedFds(process.env, process.pid, ['public', 'machine'])
  if (inherited.size === 0) {
    await ensurePrivateDir(runtimeDir)
    for (const path of [publicSocket, machineSocket]) await refuseTaken(path)
  }
  const databasePath = join(stateDir, 'control-plane.db')
  const masterKey = await loadMasterKey(environment.masterKeyPath, !existsSync(databasePath))
  const unlock = lockState(stateDir)
  const db = openDatabase(databasePath)
  const letGo = (): void => {
    db.close()
    unlock()
  }
  try {
    const sealer = createSealer(masterKey)
    if (!opens(db, sealer)) {
      throw new Fault('config.invalid', {
        detail: `AEMBIT_MASTER_KEY_PATH: ${databasePath} is sealed under another key than the one of ${environment.masterKeyPath}; restore that key, or run rotate-master-key again where a rotation was interrupted`,
      })
    }
    const common = { db, sealer, clock, log }
    const places = createPlaces(log)
    const circumstances = createCircumstances(clock, places.locate)
    let credentials: CredentialPlane
    let people: IdentityPlane['accounts']
    const fleet = await createFleetPlane({
      ...common,
      version,
      adminTokenPath: join(stateDir, 'admin-token'),
      issueCredential: (request) => credentials.issue(request),
      shared: () => credentials.shared(),
      circumstances,
      person: (subject) => people.find(subject),
    })
    const identity = await createIdentityPlane(
      {
        ...common,
        policy: fleet.policy,
        revoke: fleet.snapshots.revoke,
        audit: fleet.audit,
        signedOut: (subject) => credentials.signedOut(subject),
        events: fleet.accessEvents,
      },
      first,
    )
    const { sessions, browser, keys, idpTokens, externals } = identity
    people = identity.accounts
    const { snapshots, changes } = fleet
    credentials = createCredentialPlane({
      ...common,
      snapshots,
      changes,
      people,
      sessions,
      browser,
      idpTokens,
      externals,
      keys,
      circumstances,
      events: fleet.accessEvents,
      audit: fleet.audit,
    })

    /** Each step that can fail comes before the one function that does not: all of it is in force, or none. */
    const apply = async (config: Config): Promise<void> => {
      const commit = await identity.prepare(config)
      const place = await places.prepare(config)
      await snapshots.apply(config, identity.keys.publicJwks(), () => {
        const entering = [fleet.declare(config), commit(), place]
        return () => {
          for (const enter of entering) enter()
        }
      })
    }
    let turn: Promise<void> = Promise.resolve()
    const inTurn = (work: () => Promise<void>): Promise<void> => {
      turn = turn.catch(() => {}).then(work)
      return turn
    }
    const server = () => snapshots.current().config.authorizationServer
    const rotation = createKeyRotation({
      keys,
      clock,
      log,
      everyMs: () => server().keyRotation * 1000,
      tokenMs: () => server().accessTokenLifetime * 1000,
      apply: () => inTurn(() => apply(snapshots.current().config)),
    })
    await apply(first)

    const publicApp = await createPublicApp(log, () => snapshots.current().config.gateway.url)
    identity.register(publicApp)
    fleet.register(publicApp, (app) => {
      registerSigningKeys(app, { keys, rotation, audit: fleet.audit })
      registerConfiguration(app, {
        path: configPath,
        load,
        check: async (config) => {
          identity.check(config)
          await places.check(config)
        },
        apply: (config) => inTurn(() => apply(config)),
        snapshots,
        audit: fleet.audit,
      })
    })
    credentials.register(publicApp)
    await listenPrivately(publicApp, publicSocket, inherited.get('public'))
    await listenPrivately(fleet.machineApp, machineSocket, inherited.get('machine'))

    const sweep = (): void => {
      try {
        identity.sweep()
        fleet.sweep()
        credentials.sweep()
      } catch (err) {
        log.error({ err }, 'expired rows could not be deleted')
      }
    }
    sweep()
    const rotate = (): void => {
      rotation.tick().catch((err: unknown) => log.error({ err }, 'signing keys could not be rotated'))
    }
    // A process that never runs for long enough must rotate, too.
    rotate()
    const sweeper = setInterval(() => {
      sweep()
      rotate()
    }, sweepEveryMs)
    sweeper.unref()
    const renewer = setInterval(() => void credentials.renew(), renewEveryMs)
    renewer.unref()

    return {
      publicSocket,
      machineSocket,
      reload: () => inTurn(async () => apply(await load())),
      stop: async () => {
        clearInterval(sweeper)
        clearInterval(renewer)
        await turn.catch(() => {})
        fleet.close()
        await Promise.all([publicApp.close(), fleet.machineApp.close()])
        await Promise.all([identity.close(), credentials.close()])
        if (inherited.size === 0)
          await Promise.all([publicSocket, machineSocket].map((path) => rm(path, { force: true })))
        places.close()
        letGo()
      },
    }
  } catch (error) {
    letGo()
    throw error
  }
}
