import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Fault } from '../../shared/faults.ts'
import { problemContentType, toProblem } from '../../shared/problem.ts'
import { abandonBody } from './body.ts'

/** problem+json (RFC 9457) for paths that do not speak JSON-RPC. */
export function refuseProblem(req: IncomingMessage, res: ServerResponse, fault: Fault): void {
  abandonBody(req, res)
  const body = JSON.stringify(toProblem(fault))
  res.writeHead(fault.spec.status, {
    'content-type': problemContentType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...(fault.spec.status === 503 ? { 'retry-after': '1' } : {}),
  })
  res.end(body)
}
