import { Fault } from '../../../shared/faults.ts'
import type { Run } from '../pipeline.ts'
import type { CoreDeps } from './core.ts'
import type { SessionDeps } from './session.ts'

/** DELETE: the session ends at every worker before the answer; its upstream sessions end behind it. */
export function end({
  sessions,
  core,
  log,
}: SessionDeps & Pick<CoreDeps, 'core'> & { log: { warn(fields: object, text: string): void } }): Run {
  return async (x) => {
    const { session } = x
    if (!session) throw new Fault('session.missing')
    const upstreams = await sessions.end(session)
    const { principal, index, circumstances } = x
    core.endSession(session, { principal, index, circumstances, upstreams }).catch((error: unknown) => {
      log.warn({ code: Fault.from(error).code }, 'upstream sessions were not ended')
    })
    x.reply.empty(204)
  }
}
