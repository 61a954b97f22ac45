import { Fault } from '../../../shared/faults.ts'
import type { Run } from '../pipeline.ts'
import type { CoreDeps } from './core.ts'
import type { SessionDeps } from './session.ts'

/** DELETE: the session ends here at once; its upstream sessions end behind the answer. */
export function end({
  sessions,
  core,
  log,
}: SessionDeps & CoreDeps & { log: { warn(fields: object, text: string): void } }): Run {
  return (x) => {
    const { session } = x
    if (!session) throw new Fault('session.missing')
    sessions.end(session)
    core.endSession(session).catch((error: unknown) => {
      log.warn({ code: Fault.from(error).code }, 'upstream sessions were not ended')
    })
    x.reply.empty(204)
  }
}
