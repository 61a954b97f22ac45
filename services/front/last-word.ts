import type { Socket } from 'node:net'
import { Fault, type FaultCode } from '../../shared/faults.ts'
import { problemContentType, toProblem } from '../../shared/problem.ts'

/** A whole HTTP/1.1 response, with or without its body, after which the connection ends (RFC 9112 §9.6, RFC 9457). */
export interface LastWord {
  readonly full: Buffer
  readonly head: Buffer
}

function lastWord(code: FaultCode, reason: string): LastWord {
  const problem = toProblem(new Fault(code))
  const body = JSON.stringify(problem)
  const lines = [
    `HTTP/1.1 ${problem.status} ${reason}`,
    `content-type: ${problemContentType}`,
    `content-length: ${Buffer.byteLength(body)}`,
    'cache-control: no-store',
    'connection: close',
  ]
  const head = `${lines.join('\r\n')}\r\n\r\n`
  return { full: Buffer.from(head + body), head: Buffer.from(head) }
}

/** To one whose request was with a process that died. */
export const lost = lastWord('request.lost', 'Bad Gateway')

/** To one for whom no proxy was there in time; what it sent has reached nobody. */
export const unserved = lastWord('drain.timeout', 'Service Unavailable')

/**
 * Says goodbye after what is already written. Closing while the other still sends would reset the connection and lose
 * the answer on its way, so its bytes are read and dropped for a while.
 */
export function part(client: Socket, lingerMs: number, word?: Buffer): NodeJS.Timeout {
  if (word && client.writable) client.write(word)
  client.end()
  client.resume()
  return setTimeout(() => client.destroy(), lingerMs).unref()
}
