import { Fault } from '../../../shared/faults.ts'
import { type Exchange, header } from '../exchange.ts'
import { modernVersion } from '../mcp/protocol/shape.ts'
import type { Session } from '../mcp/protocol/types.ts'
import type { Run } from '../pipeline.ts'
import type { Sessions } from '../sessions.ts'
import { batchVersion } from './classify.ts'

export interface SessionDeps {
  readonly sessions: Sessions
}

/**
 * Which session is it in? Modern requests have none. A legacy client that forgets its id is answered without a
 * session; one that sends an id gets that session or 404, never another. DELETE is about a session, so it needs one.
 */
export function session({ sessions }: SessionDeps): Run {
  return (x) => {
    const ending = x.req.method === 'DELETE'
    if (ending && header(x.req, 'mcp-protocol-version') === modernVersion) throw new Fault('http.method')
    if (x.era === 'modern') return
    const id = header(x.req, 'mcp-session-id')
    if (id === undefined) {
      if (ending) throw new Fault('session.missing')
      return
    }
    if (x.message && 'method' in x.message && x.message.method === 'initialize') return
    const found = sessions.resolve(id, x.principal)
    if (found instanceof Promise) return found.then((late) => admit(x, late))
    admit(x, found)
  }
}

function admit(x: Exchange, session: Session): void {
  x.session = session
  x.protocolVersion = session.protocolVersion
  if (x.batch && session.protocolVersion !== batchVersion) throw new Fault('rpc.batch')
}
