import { once } from 'node:events'
import { chmod, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { Fault } from '../../shared/faults.ts'

/** Throws `listen.failed` where a live process has the socket: asked before a start touches anything. */
export async function refuseTaken(path: string): Promise<void> {
  if (await answers(path)) {
    throw new Fault('listen.failed', {
      detail: `${path}: another control plane listens there; stop it, or set another AEMBIT_RUNTIME_DIR`,
    })
  }
}

/**
 * Listens on a unix socket that only our own user may open; what a crashed predecessor left there is removed. A socket
 * of systemd's (`fd`) is listened on as it is: its unit says who may open it, and clients wait there while we restart.
 */
export async function listenPrivately(app: FastifyInstance, path: string, fd?: number): Promise<void> {
  if (fd !== undefined) {
    await app.ready()
    app.server.listen({ fd })
    await once(app.server, 'listening')
    return
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
