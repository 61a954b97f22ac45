import { Fault } from '../../../../shared/faults.ts'
import type { Context } from '../context.ts'
import type { Answered } from '../flight.ts'
import { holdersOf } from '../holders.ts'
import { shapeError } from '../protocol/shape.ts'
import { Stop } from '../stop.ts'
import type { SessionCall } from './watch.ts'

const maxUriChars = 4_096
/** A server that did not answer within this is asked on; the client's part is done. */
const answerMs = 5_000

/** `resources/subscribe` of a legacy client: notices come on the streams of its session. */
export async function subscribe(context: Context): Promise<Answered> {
  const { deps, flight } = context
  const { uri, call } = read(context)
  const done = record(context)
  const servers = await holdersOf(context, uri)
  const stop = new Stop().limit(answerMs)
  flight.stop.on((reason) => stop.stop(reason))
  const answer = await deps.notices.watches.subscribe(call, uri, servers, stop).finally(() => stop.end())
  if (flight.stop.reason) throw flight.stop.reason
  done(answer === true ? undefined : answer ? 'upstream.error' : 'resource.unknown')
  if (answer === true) return { result: {} }
  if (answer) return { error: shapeError(answer, 'legacy') }
  throw new Fault('resource.unknown', { data: { uri } })
}

/** `resources/unsubscribe` of a legacy client. What was not subscribed is no error: the outcome is what was asked for. */
export async function unsubscribe(context: Context): Promise<Answered> {
  const { uri, call } = read(context)
  const done = record(context)
  await context.deps.notices.watches.unsubscribe(call, uri)
  done(undefined)
  return { result: {} }
}

/** Without a session there is nobody to tell. */
function read({ call, params }: Context): { uri: string; call: SessionCall } {
  const { uri } = params
  if (typeof uri !== 'string' || uri === '' || uri.length > maxUriChars)
    throw new Fault('rpc.params', { data: { field: 'uri' } })
  if (!call.session) throw new Fault('session.missing')
  return { uri, call: call as SessionCall }
}

function record({ call, flight, deps: { recorder } }: Context): (reasonCode: string | undefined) => void {
  const client = { server: null, decision: null }
  recorder.request(call, { ...client, outcome: 'Passthrough' })
  return (reasonCode) =>
    recorder.response(call, {
      ...client,
      outcome: reasonCode === undefined ? 'Passthrough' : 'Error',
      ...(reasonCode === undefined ? {} : { reasonCode }),
      httpResponseCode: 200,
      durationMs: flight.ageMs,
    })
}
