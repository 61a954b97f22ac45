import { createHash } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import { indexSnapshot, type PolicyIndex } from '../../../shared/policy.ts'
import type { RevocationMatch } from '../../../shared/revocations.ts'
import type { Snapshot } from '../../../shared/wire/snapshot.ts'
import type { Config } from '../config/schema.ts'
import { type CompileInputs, compileSnapshot, policyFingerprint } from '../policy/compile.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'
import type { FleetKeys } from './keys.ts'
import type { KillSwitch } from './kill-switch.ts'
import type { Revocations } from './revocations.ts'
import type { ToolPins } from './tool-pins.ts'

/** One configuration in force: what gateways get and what this service decides on are the same object. */
export interface Applied {
  readonly config: Config
  readonly snapshot: Snapshot
  readonly index: PolicyIndex
  /** Compact JWS of the snapshot. */
  readonly jws: string
  /** `<version>-<digest>`, without quotes. */
  readonly etag: string
}

export interface SnapshotSource {
  /** Throws `snapshot.none` before the first apply. */
  current(): Applied
  /**
   * Compiles, signs and puts in force. Throws and keeps the former where anything fails. `write`: what stands beside the
   * snapshot in the database, written with it or not at all; what it gives puts that in force, and can not fail.
   */
  apply(config: Config, issuerKeys: CompileInputs['issuerKeys'], write?: () => () => void): Promise<Applied>
  /** Access tokens issued until now that match are refused by every gateway once the snapshot reaches it. */
  revoke(match: RevocationMatch): Promise<void>
  /** Compiles the configuration in force again: what stands beside it (kill switch, keys) has changed. */
  refresh(): Promise<void>
  /** Called after each change of content; the function it gives back ends that. */
  onChange(listener: (applied: Applied) => void): () => void
}

export interface SnapshotDeps {
  readonly db: DatabaseSync
  readonly clock: Clock
  readonly keys: FleetKeys
  readonly revocations: Revocations
  readonly killSwitch: Pick<KillSwitch, 'active'>
  readonly toolPins: Pick<ToolPins, 'approved'>
  readonly log: Logger
}

export function createSnapshotSource(deps: SnapshotDeps): SnapshotSource {
  const { db, clock, keys, revocations, killSwitch, toolPins, log } = deps
  const versions = createVersions(db, clock)
  const listeners = new Set<(applied: Applied) => void>()
  let applied: Applied | undefined
  let issuerKeys: CompileInputs['issuerKeys'] = { keys: [] }
  let last: Promise<unknown> = Promise.resolve()

  /** One at a time: two that ran at once could put the older one in force. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.then(work)
    last = turn.catch(() => {})
    return turn
  }

  const put = async (
    config: Config,
    ownKeys: CompileInputs['issuerKeys'],
    write?: () => () => void,
  ): Promise<Applied> => {
    const live = revocations.live(config.authorizationServer.accessTokenLifetime)
    const policyVersions = versions.ofPolicies(config)
    const content = {
      issuerKeys: ownKeys,
      revocations: live,
      blocks: killSwitch.active(),
      approvedTools: toolPins.approved,
      policyVersions: policyVersions.map,
    }
    const blank = compileSnapshot(config, { ...content, version: 1, issuedAt: new Date(0).toISOString() })
    const digest = createHash('sha256').update(JSON.stringify(blank)).digest('base64url')
    const { version, issuedAt, changed } = versions.next(config.tenant.id, digest)
    const snapshot = compileSnapshot(config, {
      ...content,
      version,
      issuedAt: new Date(issuedAt).toISOString(),
    })
    const next: Applied = {
      config,
      snapshot,
      index: indexSnapshot(snapshot),
      jws: await keys.signSnapshot(JSON.stringify(snapshot)),
      etag: `${version}-${digest.slice(0, 22)}`,
    }
    const enter = transaction(db, () => {
      if (changed) {
        policyVersions.save()
        versions.save(config.tenant.id, version, digest, issuedAt)
      }
      return write?.()
    })
    const before = applied
    applied = next
    enter?.()
    issuerKeys = ownKeys
    if (before?.etag !== next.etag) {
      const { policies, servers } = snapshot
      log.info({ version, policies: policies.length, servers: servers.length }, 'snapshot in force')
      for (const listener of listeners) listener(next)
    }
    return next
  }

  const current = (): Applied => {
    if (!applied) throw new Fault('snapshot.none')
    return applied
  }
  return {
    current,
    apply: (config, ownKeys, write) => inTurn(() => put(config, ownKeys, write)),
    revoke: (match) =>
      inTurn(async () => {
        revocations.add(match)
        await put(current().config, issuerKeys)
      }),
    refresh: () => inTurn(async () => void (await put(current().config, issuerKeys))),
    onChange: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
}

/**
 * Versions rise when content changes and only then, across restarts too. A new version is at least the time in
 * seconds, so that a database restored from a backup does not give an old number to new content: a gateway refuses
 * to go back.
 */
function createVersions(db: DatabaseSync, clock: Clock) {
  const find = db.prepare('SELECT version, digest, issued_at FROM snapshot_version WHERE tenant_id = ?')
  const put =
    db.prepare(`INSERT INTO snapshot_version (tenant_id, version, digest, issued_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (tenant_id) DO UPDATE SET version = excluded.version, digest = excluded.digest, issued_at = excluded.issued_at`)
  const policies = db.prepare('SELECT policy_id, version, digest FROM policy_version')
  const putPolicy = db.prepare(`INSERT INTO policy_version (policy_id, version, digest) VALUES (?, ?, ?)
    ON CONFLICT (policy_id) DO UPDATE SET version = excluded.version, digest = excluded.digest`)
  return {
    next: (tenantId: string, digest: string) => {
      const row = find.get(tenantId)
      const before = row ? { version: Number(row.version), issuedAt: Number(row.issued_at) } : undefined
      if (before && row?.digest === digest) return { ...before, changed: false }
      const version = Math.max((before?.version ?? 0) + 1, Math.floor(clock.now() / 1000))
      return { version, issuedAt: clock.now(), changed: true }
    },
    save: (tenantId: string, version: number, digest: string, issuedAt: number) =>
      put.run(tenantId, version, digest, issuedAt),
    ofPolicies: (config: Config) => {
      const known = new Map(policies.all().map((row) => [String(row.policy_id), row]))
      const next = config.accessPolicies.map((policy) => {
        const digest = createHash('sha256').update(policyFingerprint(config, policy)).digest('base64url')
        const row = known.get(policy.id)
        const version = row === undefined ? 1 : Number(row.version) + (row.digest === digest ? 0 : 1)
        return { id: policy.id, version, digest }
      })
      return {
        map: new Map(next.map(({ id, version }) => [id, version])),
        save: () => {
          for (const { id, version, digest } of next) putPolicy.run(id, version, digest)
        },
      }
    },
  }
}
