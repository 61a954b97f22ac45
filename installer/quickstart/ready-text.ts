import { relative } from 'node:path'
import type { World } from './world.ts'

/** What a person does next, in lines that work as pasted. */
export function readyText(world: World, root: string): string {
  const { url, caPath, user, state } = world
  const trust = caPath ? `NODE_EXTRA_CA_CERTS=${shell(caPath)} ` : ''
  const short = (path: string): string => {
    const way = relative(root, path)
    return way.startsWith('..') ? path : way
  }
  const cursor = { mcpServers: { gateway: { url } } }
  const code = { name: 'gateway', type: 'http', url }
  const signIn = user
    ? `sign in        ${user.email}   password ${user.password}`
    : `sign in        as a user of ${short(world.configPath)}`
  return `
ready: ${url}

${signIn}
notes          asks for an account of its own at the first call: any name will do

Claude Code    ${trust ? `export ${trust.trim()} && ` : ''}claude mcp add --transport http gateway ${url} && claude
Cursor         .cursor/mcp.json: ${JSON.stringify(cursor)}
               ${trust}cursor .
VS Code        ${trust}code --add-mcp ${shell(JSON.stringify(code))}
Inspector      ${trust}npx @modelcontextprotocol/inspector --transport http --server-url ${url}
a script       npm run try

configuration  ${short(world.configPath)}   (read at start)
logs           tail -F ${short(state.logs)}/*.log
stop           Ctrl-C
`
}

/** Quoted where a shell would read it as more than one plain word. */
const shell = (text: string): string =>
  /^[\w./:@=+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
