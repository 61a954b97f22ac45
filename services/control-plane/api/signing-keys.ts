import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { KeyRotation } from '../authorization/key-rotation.ts'
import type { SigningKeys } from '../authorization/keys.ts'
import type { AuditLog } from '../events/audit.ts'
import { list, parse } from './answers.ts'

export interface SigningKeysApiDeps {
  readonly keys: Pick<SigningKeys, 'list'>
  readonly rotation: Pick<KeyRotation, 'rotate'>
  readonly audit: AuditLog
}

const rotateBody = z.strictObject({ compromised: z.boolean().default(false) })

/** `/signing-keys`: which keys sign access tokens, and their rotation before it is due. */
export function registerSigningKeys(
  app: FastifyInstance,
  { keys, rotation, audit }: SigningKeysApiDeps,
): void {
  const views = () =>
    keys.list().map(({ kid, algorithm, state, createdAt, retiredAt }) => ({
      kid,
      algorithm,
      state,
      createdAt: new Date(createdAt).toISOString(),
      retiredAt: retiredAt === null ? null : new Date(retiredAt).toISOString(),
    }))
  const answer = () => {
    const all = views()
    return list(all, 1, Math.max(all.length, 1), all.length, 'desc')
  }
  app.get('/signing-keys', async () => answer())
  app.post('/signing-keys/rotate', async (request) => {
    const { compromised } = parse(rotateBody, request.body ?? {})
    await rotation.rotate(compromised)
    audit.add({
      category: 'Tenant',
      activity: compromised ? 'Signing keys replaced as compromised' : 'Signing key rotation started',
      actor: { type: 'Administrator', displayName: 'administrator token' },
      target: 'authorization server signing keys',
      outcome: 'Success',
      severity: compromised ? 'Alert' : 'Info',
      client: { ip: request.ip },
    })
    return answer()
  })
}
