import { type IncomingMessage, request } from 'node:http'

export interface Reply {
  readonly status: number
  readonly session: string | undefined
  readonly text: string
}

export interface Caller {
  /** Opens a session; gives its id. */
  open(): Promise<string>
  call(session: string, tool: string): Promise<Reply>
  /** The stream of what the server says outside of requests; resolves when it is open. */
  listen(session: string): Promise<IncomingMessage>
}

/** Speaks to the adapter as proxy does, for one person, to its server `s`. */
export function caller(socketPath: string, party: string, credential?: string): Caller {
  const send = (
    method: 'GET' | 'POST',
    session: string | undefined,
    body?: object,
  ): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const headers = {
        'aembit-party': party,
        ...(session === undefined ? {} : { 'mcp-session-id': session }),
        ...(credential === undefined ? {} : { authorization: `Bearer ${credential}` }),
      }
      request({ socketPath, path: '/s', method, headers, agent: false }, resolve)
        .once('error', reject)
        .end(body === undefined ? undefined : JSON.stringify({ jsonrpc: '2.0', id: 1, ...body }))
    })
  const post = async (session: string | undefined, body: object): Promise<Reply> => {
    const answer = await send('POST', session, body)
    let text = ''
    for await (const chunk of answer.setEncoding('utf8')) text += chunk
    const given = answer.headers['mcp-session-id']
    return { status: answer.statusCode ?? 0, session: typeof given === 'string' ? given : undefined, text }
  }
  return {
    open: async () => {
      const { status, session, text } = await post(undefined, { method: 'initialize', params: {} })
      if (session === undefined || status !== 200) throw new Error(`${status} ${text}`)
      return session
    },
    call: (session, name) => post(session, { method: 'tools/call', params: { name } }),
    listen: (session) => send('GET', session),
  }
}
