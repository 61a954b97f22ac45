import { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import type { NotesStore } from './store.ts'

/** One request's MCP server, acting for one Notes account. */
export function createNotesServer(store: NotesStore, account: string): McpServer {
  const server = new McpServer({ name: 'notes', version: '1.0.0' })
  const text = (value: string) => ({ content: [{ type: 'text' as const, text: value }] })
  const listing = (): string => {
    const notes = store.notes(account)
    return notes.length === 0
      ? 'no notes yet'
      : notes.map((note, index) => `${index + 1}. ${note}`).join('\n')
  }

  server.registerTool(
    'whoami',
    { description: 'The Notes account that this call acts for.', inputSchema: z.object({}) },
    async () => text(account),
  )
  server.registerTool(
    'list_notes',
    { description: 'The notes of the account, oldest first.', inputSchema: z.object({}) },
    async () => text(listing()),
  )
  server.registerTool(
    'add_note',
    {
      description: 'Adds a note to the account.',
      inputSchema: z.object({ text: z.string().min(1).max(2000) }),
    },
    async ({ text: note }) => {
      store.addNote(account, note)
      return text(`noted for ${account}`)
    },
  )
  server.registerResource(
    'all-notes',
    'notes://all',
    { title: 'All notes', description: 'The notes of the account as text.', mimeType: 'text/plain' },
    async (uri) => ({ contents: [{ uri: uri.href, mimeType: 'text/plain', text: listing() }] }),
  )
  server.registerPrompt(
    'summarize_notes',
    {
      description: 'Asks for a summary of the notes.',
      argsSchema: z.object({ style: z.string().optional().describe('for instance "one sentence"') }),
    },
    async ({ style }) => ({
      messages: [
        {
          role: 'user' as const,
          content: {
            type: 'text' as const,
            text: `Summarize these notes${style ? ` in ${style}` : ''}:\n${listing()}`,
          },
        },
      ],
    }),
  )
  return server
}
