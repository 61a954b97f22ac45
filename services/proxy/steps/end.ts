import { Fault } from '../../../shared/faults.ts'
import type { Run } from '../pipeline.ts'
import type { CoreDeps } from './core.ts'
import type { SessionDeps } from './session.ts'

/** DELETE: the session ends at every worker before the answer; its upstream sessions end behind it. */
export function end({
  sessions,
  core,
  log,
}: SessionDeps & CoreDeps & { log: { warn(fields: object, text: string): void } }): Run {
  return async (x) => {
    const { session } = x
    if (!session) throw new Fault('session.missing')
    await sessions.end(session)
    core.endSession(session).catch((error: unknown) => {
      log.warn({ code: Fault.from(error).code }, 'upstream sessions were not ended')
    })
    x.reply.empty(204)
  }
}
