import type { Guards } from '../guard/guards.ts'
import type { Measures } from '../measures.ts'
import type { Access, createAccess } from './access.ts'
import type { Catalogue } from './catalogue.ts'
import type { Flight, RequestCall } from './flight.ts'
import type { Notices } from './notices/notices.ts'
import type { ServerInfo } from './protocol/shape.ts'
import type { CoreDeps, JsonObject, Seals } from './protocol/types.ts'
import type { ParkedCalls } from './rounds/parked.ts'
import type { RequestStates } from './rounds/states.ts'
import type { Party } from './upstream/request.ts'
import type { Upstreams } from './upstream/upstreams.ts'

/** What a worker has for every call. */
export interface Parts extends CoreDeps {
  readonly measures: Measures
  readonly upstreams: Upstreams
  readonly catalogue: Catalogue
  readonly guards: Guards
  readonly notices: Notices
  readonly accessOf: ReturnType<typeof createAccess>
  readonly seals: Seals
  readonly parked: ParkedCalls
}

/** One call on its way to its answer. */
export interface Context {
  readonly call: RequestCall
  readonly params: JsonObject
  readonly flight: Flight
  readonly access: Access
  readonly party: Party
  readonly logLevel: string | undefined
  readonly deps: Parts
  readonly states: RequestStates
  readonly info: ServerInfo
  /** Log level of the client's session, for the calls that follow. */
  setLogLevel(level: string): void
}
