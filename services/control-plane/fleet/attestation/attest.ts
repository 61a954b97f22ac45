import { hash } from 'node:crypto'
import type { JWK } from 'jose'
import type { Clock } from '../../../../shared/clock.ts'
import { Fault } from '../../../../shared/faults.ts'
import type { Logger } from '../../../../shared/log.ts'
import {
  type AttestedTokenRequest,
  boundAudience,
  type Challenge,
  type ControllerPublicJwk,
} from '../../../../shared/wire/attestation.ts'
import type { ControllerTrustProvider } from '../../config/agent-controllers.ts'
import type { Config } from '../../config/schema.ts'
import type { AuditLog } from '../../events/audit.ts'
import type { DatabaseSync } from '../../store/database.ts'
import { digest } from '../../store/digest.ts'
import { readAssertion } from '../assertions.ts'
import type { Controllers } from '../controllers.ts'
import { publicKey } from '../public-key.ts'
import { createChallenges } from './challenges.ts'
import { EvidenceError } from './types.ts'
import { createVerifier, type Verifier } from './verify.ts'

export interface Attestation {
  /** For any controller id, known or not: the answer tells nothing. */
  challenge(controllerId: string, publicJwk: ControllerPublicJwk): Promise<Challenge>
  /** The `kid` of the machine that proved what it is. Throws `attestation.refused`, whatever is wrong. */
  attest(request: AttestedTokenRequest, address: string): Promise<string>
  /** Writes what the trust providers of a configuration take back; what it gives puts them in force. */
  apply(config: Config): () => void
  sweep(): void
  close(): Promise<void>
}

export interface AttestationDeps {
  readonly db: DatabaseSync
  readonly clock: Clock
  readonly secret: Buffer
  readonly controllers: Pick<Controllers, 'attested' | 'find'>
  /** Takes the tokens of a controller's machines back. */
  readonly revoke: (controllerId: string) => void
  readonly audit: Pick<AuditLog, 'add'>
  readonly log: Logger
}

export function createAttestation(deps: AttestationDeps): Attestation {
  const { db, clock, secret, controllers, revoke, audit, log } = deps
  const challenges = createChallenges(db, clock, secret)
  const pinOf = db.prepare(
    'SELECT controller_id, kid FROM attestation_pin WHERE digest = ? AND expires_at > ?',
  )
  const pin =
    db.prepare(`INSERT INTO attestation_pin (digest, controller_id, kid, expires_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (digest) DO UPDATE SET
      controller_id = excluded.controller_id, kid = excluded.kid, expires_at = excluded.expires_at`)
  const unpin = db.prepare('DELETE FROM attestation_pin WHERE expires_at <= ?')
  let tenantId = ''
  let verifiers = new Map<string, { wanted: string; verifier: Verifier }>()

  /** Synchronous from the look-up to the write: of two machines with one document, one is the first. */
  const claim = (
    { pin: wanted, firstBefore, subject }: Awaited<ReturnType<Verifier['verify']>>,
    controllerId: string,
    kid: string,
  ): void => {
    if (!wanted) return
    const name = digest(wanted.value)
    const owner = pinOf.get(name, clock.now())
    if (owner && (owner.kid !== kid || owner.controller_id !== controllerId)) {
      throw new EvidenceError(
        `${subject} was shown first by another key; if that machine lost its state, delete its instance ${owner.kid} of controller ${owner.controller_id}`,
      )
    }
    if (!owner && firstBefore !== undefined && clock.now() > firstBefore) {
      throw new EvidenceError(
        `${subject} was launched too long ago to register for the first time (registerWithin)`,
      )
    }
    pin.run(name, controllerId, kid, wanted.until)
  }

  const check = async (request: AttestedTokenRequest): Promise<{ subject: string; kid: string }> => {
    const { controllerId, publicJwk, challenge, evidence, assertion } = request
    const { kid, ...jwk } = await publicKey(publicJwk)
    const now = clock.now()
    const nonce = challenges.spend(challenge, controllerId, kid)
    const audience = boundAudience(tenantId, challenge)
    await readAssertion(assertion, jwk as JWK, { controllerId, audience, now })
    const found = verifiers.get(controllerId)
    if (!found) throw new EvidenceError('no controller of this id has a trust provider')
    const attested = await found.verifier.verify(evidence, { audience, nonce, now })
    // The configuration may have changed while the evidence was looked at.
    if (verifiers.get(controllerId) !== found) throw new EvidenceError('its trust provider was just changed')
    claim(attested, controllerId, kid)
    return { subject: attested.subject, kid }
  }

  return {
    challenge: async (controllerId, publicJwk) =>
      challenges.make(controllerId, (await publicKey(publicJwk)).kid),
    attest: async (request, address) => {
      const { controllerId, version, hostname } = request
      const name = controllers.find(controllerId)?.name ?? controllerId
      const entry = {
        category: 'AgentControllers',
        actor: { type: 'System', displayName: hostname },
        target: name,
        client: { ip: address },
      } as const
      try {
        const { subject, kid } = await check(request)
        const known = controllers.find(controllerId)?.instances.some((instance) => instance.kid === kid)
        await controllers.attested(controllerId, request.publicJwk, subject, { version, hostname })
        if (!known) {
          log.info(
            { controllerId, name, hostname, subject, instance: kid },
            'agent controller registered by attestation',
          )
          audit.add({
            ...entry,
            activity: 'Agent controller registered',
            outcome: 'Success',
            severity: 'Info',
            detail: { controllerId, subject, instance: kid },
          })
        }
        return kid
      } catch (error) {
        const why = (error instanceof Error ? error.message : String(error)).slice(0, 500)
        const detail = `controller ${controllerId} (${hostname}): ${why}`
        audit.add({
          ...entry,
          activity: 'Agent controller refused',
          outcome: 'Failure',
          severity: 'Warn',
          detail: { controllerId, reason: why },
        })
        throw new Fault('attestation.refused', { detail, cause: error })
      }
    },
    apply: (config) => {
      const next = new Map<string, { wanted: string; verifier: Verifier }>()
      for (const { id, trustProvider } of config.agentControllers) {
        const wanted = wantedBy(trustProvider)
        const kept = verifiers.get(id)
        next.set(
          id,
          kept?.wanted === wanted ? kept : { wanted, verifier: createVerifier(trustProvider, clock) },
        )
      }
      const gone = [...verifiers].filter(([id, entry]) => next.get(id) !== entry)
      for (const [id] of gone) revoke(id)
      return () => {
        tenantId = config.tenant.id
        verifiers = next
        for (const [, { verifier }] of gone) void verifier.close()
      }
    },
    sweep: () => void unpin.run(clock.now()),
    close: async () => {
      await Promise.all([...verifiers.values()].map(({ verifier }) => verifier.close()))
    },
  }
}

/** What a verifier is made of, to see whether it changed; a secret serializes as dots, its digest stands for it. */
function wantedBy(provider: ControllerTrustProvider): string {
  const secret = provider.provider === 'OidcIdToken' ? provider.symmetricKey : undefined
  return JSON.stringify([provider, secret ? hash('sha256', secret.reveal()) : null])
}
