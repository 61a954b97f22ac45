import {
  Client as ClientV2,
  StreamableHTTPClientTransport as TransportV2,
} from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { createFetch, type Era, versionNegotiation } from '../../installer/quickstart/agent.ts'

export interface Access {
  readonly url: string
  readonly caPath: string
  readonly token: string
}

export interface CallOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: number) => void
}

/** One connection of a client to the gateway. Texts are everything a result says, in one string. */
export interface Conversation {
  /** The protocol version that was agreed on. */
  readonly version: string
  tools(): Promise<readonly string[]>
  call(tool: string, args: Record<string, unknown>, options?: CallOptions): Promise<string>
  read(uri: string): Promise<string>
  prompt(name: string, args: Record<string, string>): Promise<string>
  close(): Promise<void>
}

export interface Subject {
  readonly id: string
  readonly label: string
  /** Protocol version it has to end up with. */
  readonly version: string
  /** Operations that this client has no way to do → why. */
  readonly unable: Readonly<Partial<Record<string, string>>>
  /** `answer` is what the person gives to a form that asks for a name. */
  open(access: Access, answer: string): Promise<Conversation>
}

const timeoutMs = 30_000
const everything = (result: unknown): string => JSON.stringify(result)

const sdkV1: Subject = {
  id: 'v1',
  label: 'SDK v1 client',
  version: '2025-11-25',
  unable: {},
  open: async ({ url, caPath, token }, answer) => {
    const { fetch, close } = createFetch(caPath)
    const client = new ClientV1(
      { name: 'interop-v1', version: '1.0.0' },
      { capabilities: { elicitation: {} } },
    )
    client.setRequestHandler(ElicitRequestSchema, async () => ({
      action: 'accept',
      content: { name: answer },
    }))
    const headers = { authorization: `Bearer ${token}` }
    const transport = new TransportV1(new URL(url), { fetch, requestInit: { headers } })
    await client.connect(transport, { timeout: timeoutMs })
    const common = { timeout: timeoutMs }
    return {
      version: transport.protocolVersion ?? '',
      tools: async () => (await client.listTools({}, common)).tools.map(({ name }) => name),
      call: async (name, args, { signal, onProgress } = {}) =>
        everything(
          await client.callTool({ name, arguments: args }, undefined, {
            ...common,
            ...(signal && { signal }),
            ...(onProgress && { onprogress: ({ progress }) => onProgress(progress) }),
          }),
        ),
      read: async (uri) => everything(await client.readResource({ uri }, common)),
      prompt: async (name, args) => everything(await client.getPrompt({ name, arguments: args }, common)),
      close: async () => {
        await client.close()
        await close()
      },
    }
  },
}

const sdkV2 = (era: Era, version: string): Subject => ({
  id: `v2-${era}`,
  label: `SDK v2 client, ${era}`,
  version,
  unable: {},
  open: async ({ url, caPath, token }, answer) => {
    const { fetch, close } = createFetch(caPath)
    const client = new ClientV2(
      { name: `interop-v2-${era}`, version: '1.0.0' },
      { versionNegotiation: versionNegotiation(era), capabilities: { elicitation: { form: {} } } },
    )
    client.setRequestHandler('elicitation/create', async () => ({
      action: 'accept',
      content: { name: answer },
    }))
    const headers = { authorization: `Bearer ${token}` }
    await client.connect(new TransportV2(new URL(url), { fetch, requestInit: { headers } }))
    const common = { timeout: timeoutMs }
    return {
      version: client.getNegotiatedProtocolVersion() ?? '',
      tools: async () => (await client.listTools({}, common)).tools.map(({ name }) => name),
      call: async (name, args, { signal, onProgress } = {}) =>
        everything(
          await client.callTool(
            { name, arguments: args },
            {
              ...common,
              ...(signal && { signal }),
              ...(onProgress && { onprogress: ({ progress }) => onProgress(progress) }),
            },
          ),
        ),
      read: async (uri) => everything(await client.readResource({ uri }, common)),
      prompt: async (name, args) => everything(await client.getPrompt({ name, arguments: args }, common)),
      close: async () => {
        await client.close()
        await close()
      },
    }
  },
})

export const sdkClients: readonly Subject[] = [
  sdkV1,
  sdkV2('legacy', '2025-11-25'),
  sdkV2('auto', '2026-07-28'),
  sdkV2('modern', '2026-07-28'),
]
