import { once } from 'node:events'
import { chmod, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { Fault } from '../../shared/faults.ts'

/**
 * Listens on a unix socket that only our own user may open. What a crashed predecessor left is removed; a live one
 * is not pushed aside. Throws `listen.failed`.
 */
export async function listenPrivately(app: FastifyInstance, path: string): Promise<void> {
  if (await answers(path)) {
    throw new Fault('listen.failed', {
      detail: `${path}: another control plane listens there; stop it, or set another AEMBIT_RUNTIME_DIR`,
    })
  }
  await rm(path, { force: true })
  try {
    await app.listen({ path })
  } catch (error) {
    throw new Fault('listen.failed', {
      detail: `${path}: ${error instanceof Error ? error.message : String(error)} (AEMBIT_RUNTIME_DIR)`,
      cause: error,
    })
  }
  await chmod(path, 0o600)
}

async function answers(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
