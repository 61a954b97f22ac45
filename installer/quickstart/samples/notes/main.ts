import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { toNodeHandler } from '@modelcontextprotocol/node'
import { createMcpHandler } from '@modelcontextprotocol/server'
import { createLocalJWKSet, jwtVerify } from 'jose'
import { sendJson, serve } from '../http.ts'
import { createAuthorization } from './authorization.ts'
import { createNotesServer } from './server.ts'
import { openNotesStore } from './store.ts'

/** A sample MCP server that wants each person's own OAuth token: `main.ts --port <port> --state <folder>`. */
const { values } = parseArgs({ options: { port: { type: 'string' }, state: { type: 'string' } } })
const port = Number(values.port)
const issuer = `http://127.0.0.1:${port}`
const resource = `${issuer}/mcp`
const metadataPath = '/.well-known/oauth-protected-resource'

const store = openNotesStore(join(values.state ?? '.', 'notes.db'))
const authorization = await createAuthorization(issuer, resource, store)
const keys = createLocalJWKSet(authorization.publicKeys)

const mcp = toNodeHandler(
  createMcpHandler(({ authInfo }) => createNotesServer(store, String(authInfo?.extra?.account)), {
    onerror: (error) => console.error(`notes: ${error.message}`),
  }),
)

const challenge = (error?: string): Record<string, string> => ({
  'www-authenticate': `Bearer ${error ? `error="${error}", ` : ''}resource_metadata="${issuer}${metadataPath}/mcp", scope="notes"`,
})

serve(
  'notes',
  port,
  async (request, response) => {
    const path = request.url?.split('?')[0] ?? ''
    if (path === metadataPath || path === `${metadataPath}/mcp`) {
      const metadata = { resource, authorization_servers: [issuer], scopes_supported: ['notes'] }
      return sendJson(response, 200, metadata)
    }
    if (path !== '/mcp') return authorization.handle(request, response)
    const token = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
    if (!token) return sendJson(response, 401, { error: 'unauthorized' }, challenge())
    try {
      const { payload } = await jwtVerify(token, keys, { issuer, audience: resource, algorithms: ['ES256'] })
      const auth = {
        token,
        clientId: String(payload.client_id),
        scopes: ['notes'],
        extra: { account: payload.sub },
      }
      await mcp(Object.assign(request, { auth }), response)
    } catch (error) {
      if (response.headersSent) throw error
      sendJson(response, 401, { error: 'invalid_token' }, challenge('invalid_token'))
    }
  },
  () => store.close(),
)
