import { readFileSync } from 'node:fs'
import { Agent, request } from 'undici'
import type { Access } from '../interop/clients.ts'
import type { Outcome } from './vices.ts'

export type Era = 'legacy' | 'modern'

export interface Answered {
  readonly outcome: Outcome
  readonly ms: number
}

/** Bare requests, so that nothing retries and nothing is hidden. */
export interface Load {
  /** One call of the tool `do` of a server. `opened` is told when the first bytes of the answer are there. */
  call(
    era: Era,
    server: string,
    args: { vice: string; nonce: string },
    opened?: () => void,
  ): Promise<Answered>
  /** Ends the session and opens another. */
  renew(): Promise<void>
  /** Ends the session and every connection. */
  close(): Promise<void>
}

/** Whoever waits longer was forgotten: far above every time-out of the gateway. */
const lostMs = 90_000

export async function createLoad({ url, caPath, token }: Access): Promise<Load> {
  const agent = new Agent({
    connect: { ca: readFileSync(caPath), timeout: 60_000 },
    connections: 2_000,
    pipelining: 1,
    allowH2: false,
    headersTimeout: 0,
    bodyTimeout: 0,
  })
  const common = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
  }
  let session: Record<string, string> = {}
  let lastId = 0

  const open = async (): Promise<void> => {
    const clientInfo = { name: 'chaos', version: '1.0.0' }
    const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo }
    const body = JSON.stringify({ jsonrpc: '2.0', id: 0, method: 'initialize', params })
    const answer = await request(url, { method: 'POST', headers: common, body, dispatcher: agent })
    await answer.body.dump()
    const id = answer.headers['mcp-session-id']
    if (answer.statusCode !== 200 || typeof id !== 'string') {
      throw new Error(`initialize answered ${answer.statusCode}`)
    }
    session = { 'mcp-session-id': id, 'mcp-protocol-version': '2025-11-25' }
  }
  const end = async (): Promise<void> => {
    const answer = await request(url, {
      method: 'DELETE',
      headers: { ...common, ...session },
      dispatcher: agent,
    })
    await answer.body.dump()
  }

  await open()
  return {
    call: async (era, server, args, opened) => {
      const name = `${server}_do`
      const id = ++lastId
      const meta: Record<string, unknown> = { progressToken: `p${id}` }
      const headers: Record<string, string> = { ...common }
      if (era === 'legacy') Object.assign(headers, session)
      else {
        meta['io.modelcontextprotocol/protocolVersion'] = '2026-07-28'
        meta['io.modelcontextprotocol/clientCapabilities'] = {}
        Object.assign(headers, {
          'mcp-protocol-version': '2026-07-28',
          'mcp-method': 'tools/call',
          'mcp-name': name,
        })
      }
      const params = { name, arguments: args, _meta: meta }
      const body = JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params })
      const startedAt = performance.now()
      const answered = (outcome: Outcome): Answered => ({ outcome, ms: performance.now() - startedAt })
      try {
        const signal = AbortSignal.timeout(lostMs)
        const answer = await request(url, { method: 'POST', headers, body, dispatcher: agent, signal })
        const type = String(answer.headers['content-type'])
        let text = ''
        answer.body.setEncoding('utf8')
        for await (const chunk of answer.body) {
          if (text === '') opened?.()
          text += chunk
        }
        const data = type.startsWith('text/event-stream')
          ? text.split('\n').findLast((line) => line.startsWith('data: '))
          : `data: ${text}`
        if (!data) return answered(`http ${answer.statusCode} without an answer`)
        return answered(read(JSON.parse(data.slice('data: '.length)), id, args.nonce, answer.statusCode))
      } catch (error) {
        const { code, name: kind } = error as NodeJS.ErrnoException
        return answered(kind === 'TimeoutError' ? 'lost' : `connection ${code ?? kind}`)
      }
    },
    renew: async () => {
      await end()
      await open()
    },
    close: async () => {
      await end()
      await agent.destroy()
    },
  }
}

interface Answer {
  readonly id?: unknown
  readonly result?: { readonly content?: readonly { readonly text?: string }[] }
  readonly error?: { readonly code: number }
}

/** `wrong` is an answer of somebody else's call. */
function read(message: Answer, id: number, nonce: string, status: number): Outcome {
  if (message.error) return status >= 500 ? `http ${status}` : `rpc ${message.error.code}`
  const mine = message.id === id && message.result?.content?.[0]?.text?.startsWith(nonce)
  return mine ? 'result' : 'wrong'
}
