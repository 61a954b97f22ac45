import type { FastifyInstance } from 'fastify'
import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import { createRateLimit } from '../../shared/rate-limit.ts'
import { loadAdminToken } from './api/admin-token.ts'
import { registerApi } from './api/routes.ts'
import type { IssuancePolicy } from './authorization/gate.ts'
import type { Config } from './config/schema.ts'
import type { SharedAdministration } from './credentials/shared-routes.ts'
import { type AccessEvents, createAccessEvents } from './events/access.ts'
import { type AuditLog, createAuditLog } from './events/audit.ts'
import { createEventStore } from './events/store.ts'
import { createAssertions } from './fleet/assertions.ts'
import { createAttestation } from './fleet/attestation/attest.ts'
import { type Controller, type Controllers, createControllers } from './fleet/controllers.ts'
import { createCredentialChanges } from './fleet/credential-changes.ts'
import { createGateways } from './fleet/gateways.ts'
import type { Instance } from './fleet/instances.ts'
import { createFleetKeys } from './fleet/keys.ts'
import { createKillSwitch } from './fleet/kill-switch.ts'
import { buildMachineApp, type MachineAppDeps } from './fleet/machine-app.ts'
import { createRevocations } from './fleet/revocations.ts'
import { createSnapshotSource, type SnapshotSource } from './fleet/snapshots.ts'
import { createStreams } from './fleet/stream.ts'
import { createMachineTokens } from './fleet/tokens.ts'
import { createToolPins } from './fleet/tool-pins.ts'
import type { Identity } from './identity/types.ts'
import { type CircumstancesOf, issuancePolicy } from './policy/issuance.ts'
import type { DatabaseSync } from './store/database.ts'
import type { Sealer } from './store/sealer.ts'
import { serverSecret } from './store/server-secrets.ts'

export interface FleetPlaneDeps {
  readonly db: DatabaseSync
  readonly sealer: Sealer
  readonly clock: Clock
  readonly log: Logger
  readonly adminTokenPath: string
  readonly version: string
  readonly issueCredential: MachineAppDeps['issueCredential']
  readonly shared: () => SharedAdministration | undefined
  readonly circumstances: CircumstancesOf
  readonly person: (subject: string) => Identity | undefined
}

export interface FleetPlane {
  readonly snapshots: SnapshotSource
  readonly changes: ReturnType<typeof createCredentialChanges>
  readonly machineApp: FastifyInstance
  readonly audit: AuditLog
  readonly accessEvents: AccessEvents
  /** The snapshot in force, as the authorization server decides by it. */
  policy(): IssuancePolicy
  /** Writes the agent controllers of a configuration; what it gives puts them in force. */
  declare(config: Config): () => void
  /** `more`: further routes of administrators. */
  register(app: FastifyInstance, more?: (app: FastifyInstance) => void): void
  sweep(): void
  close(): void
}

/** Guesses at device codes: see the threats of the fleet room. */
const guesses = { address: [10, 60_000], everyone: [50, 30_000] } as const
/** A controller attests once an hour and, after a refusal, once a minute. */
const attestations = { address: [60, 2_000], everyone: [300, 200] } as const
const watchEveryMs = 10_000

/** What controllers, gateways and administrators speak to. */
export async function createFleetPlane(deps: FleetPlaneDeps): Promise<FleetPlane> {
  const { db, sealer, clock, log, version } = deps
  const keys = await createFleetKeys(db, sealer, clock)
  const killSwitch = createKillSwitch(db, clock)
  const audit = createAuditLog(db, clock)
  const controllers = createControllers({
    db,
    clock,
    codeSecret: serverSecret(db, sealer, clock, 'device-codes'),
    onConnection: connectionEvents(audit, log),
  })
  const revocations = createRevocations(db, clock)
  const toolPins = createToolPins(db, clock)
  const snapshots = createSnapshotSource({ db, clock, keys, revocations, killSwitch, toolPins, log })
  const changes = createCredentialChanges()
  const streams = createStreams({ snapshots, changes, clock })
  const tokens = createMachineTokens(db, clock)
  const assertions = createAssertions(db, clock, controllers)
  const attestation = createAttestation({
    db,
    clock,
    secret: serverSecret(db, sealer, clock, 'attestation-challenges'),
    controllers,
    revoke: (controllerId) => tokens.revoke('controller', controllerId),
    audit,
    log,
  })
  const watch = setInterval(() => watchOnce(controllers, log), watchEveryMs)
  watch.unref()
  const limits = () => {
    const { retention, maxEvents } = snapshots.current().config.events
    return { maxAgeMs: retention * 1000, maxRows: maxEvents }
  }
  const events = createEventStore({ db, clock, limits })
  const accessEvents = createAccessEvents(db, clock, limits)
  const isAdmin = await loadAdminToken(deps.adminTokenPath)
  const machineApp = buildMachineApp({
    controllers,
    gateways: createGateways(db, clock),
    tokens,
    assertions,
    attestation,
    keys,
    snapshots,
    streams,
    events,
    toolPins,
    issueCredential: deps.issueCredential,
    guesses: {
      address: createRateLimit(clock, ...guesses.address),
      everyone: createRateLimit(clock, ...guesses.everyone),
    },
    attestations: {
      address: createRateLimit(clock, ...attestations.address),
      everyone: createRateLimit(clock, ...attestations.everyone),
    },
    clock,
    log,
  })
  return {
    snapshots,
    changes,
    machineApp,
    audit,
    accessEvents,
    policy: () => {
      const { config, index } = snapshots.current()
      return issuancePolicy(config, index, deps.circumstances(undefined))
    },
    declare: (config) => {
      controllers.declare(config)
      return attestation.apply(config)
    },
    register: (app, more) =>
      registerApi(app, {
        more,
        isAdmin,
        controllers,
        events,
        snapshots,
        killSwitch,
        toolPins,
        audit,
        accessEvents,
        explaining: { person: deps.person, circumstances: deps.circumstances },
        shared: deps.shared,
        version,
        clock,
        log,
      }),
    sweep: () => {
      tokens.sweep()
      assertions.sweep()
      attestation.sweep()
      controllers.sweep()
      events.sweep()
      audit.sweep()
      accessEvents.sweep()
    },
    close: () => {
      clearInterval(watch)
      streams.close()
      void attestation.close()
    },
  }
}

/** A database that is full or locked for the moment is no reason to end: the next look says the same. */
export function watchOnce(controllers: Pick<Controllers, 'watch'>, log: Logger): void {
  try {
    controllers.watch()
  } catch (err) {
    log.error({ err }, 'silent agent controllers could not be noted')
  }
}

/** A machine that falls silent is an event of the audit log and a line of the log, and so is its return. */
export function connectionEvents(
  audit: AuditLog,
  log: Logger,
): (controller: Controller, instance: Instance) => void {
  return ({ id, name }, { kid, hostname, healthy, lastHealthAt }) => {
    const detail = { controllerId: id, instance: kid, hostname, lastHealthAt }
    const activity = healthy ? 'Agent controller connected' : 'Agent controller disconnected'
    log[healthy ? 'info' : 'warn']({ ...detail, name }, activity.toLowerCase())
    audit.add({
      category: 'AgentControllers',
      activity,
      actor: { type: 'System', displayName: 'control plane' },
      target: name,
      outcome: healthy ? 'Success' : 'Failure',
      severity: healthy ? 'Info' : 'Alert',
      detail,
    })
  }
}
