import type { IncomingMessage, ServerResponse } from 'node:http'
import { Fault } from '../../shared/faults.ts'
import type { PolicyIndex } from '../../shared/policy.ts'
import { refuseProblem } from './refuse-problem.ts'
import { HttpReply, type KeepAlive } from './reply.ts'

/** RFC 9728 §3.1: the root form, and the form for a resource with a path. */
export function metadataPaths(mcpPath: string): string[] {
  const root = '/.well-known/oauth-protected-resource'
  return mcpPath === '/' ? [root] : [root, `${root}${mcpPath}`]
}

/** Where a 401 points to: the form that belongs to the MCP endpoint's own path. */
export function metadataUrl(origin: string, mcpPath: string): string {
  return `${origin}${metadataPaths(mcpPath).at(-1)}`
}

const documents = new WeakMap<PolicyIndex, string>()

/** The protected resource metadata (RFC 9728 §2) of a snapshot. */
export function metadataDocument(index: PolicyIndex): string {
  let document = documents.get(index)
  if (document === undefined) {
    const { resource, authorizationServers, scopes } = index.snapshot.gateway
    document = JSON.stringify({
      resource,
      authorization_servers: authorizationServers,
      scopes_supported: scopes,
      bearer_methods_supported: ['header'],
      resource_name: 'MCP Identity Gateway',
    })
    documents.set(index, document)
  }
  return document
}

/**
 * Serves the document. Public by nature: any page may read where to get a token, so CORS is `*`. The newest snapshot
 * will do, however old; without any it is 503.
 */
export function metadata(
  latest: () => PolicyIndex | undefined,
  keepAlive: KeepAlive,
): (req: IncomingMessage, res: ServerResponse) => void {
  return (req, res) => {
    const reply = new HttpReply(res, keepAlive)
    reply.extra = { 'access-control-allow-origin': '*' }
    const index = latest()
    if (req.method === 'OPTIONS') {
      reply.empty(204, { 'access-control-allow-methods': 'GET', 'access-control-allow-headers': '*' })
    } else if (req.method !== 'GET' && req.method !== 'HEAD') {
      refuseProblem(req, res, new Fault('http.method'))
    } else if (index) {
      reply.send(200, 'application/json', metadataDocument(index), { 'cache-control': 'max-age=60' })
    } else {
      refuseProblem(req, res, new Fault('snapshot.none'))
    }
  }
}
