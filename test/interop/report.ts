import { type Cell, type Operation, operations } from './cells.ts'

export interface Named {
  readonly id: string
  readonly label: string
}

/** A cell that is known to fail, until it is mended. */
export interface Exception {
  readonly client: string
  readonly server: string
  readonly operation: Operation
  readonly reason: string
}

export interface Matrix {
  readonly clients: readonly Named[]
  readonly servers: readonly Named[]
  readonly cells: readonly Cell[]
  readonly expected: readonly Exception[]
}

const same = (a: Pick<Cell, 'client' | 'server' | 'operation'>, b: typeof a): boolean =>
  a.client === b.client && a.server === b.server && a.operation === b.operation

/** What the run has to be told off for: failures nobody expected, and expectations that are no longer true. */
export function complaints({ clients, servers, cells, expected }: Matrix): string[] {
  const name = ({ client, server, operation }: Pick<Cell, 'client' | 'server' | 'operation'>): string => {
    const label = (list: readonly Named[], id: string) =>
      list.find((entry) => entry.id === id)?.label ?? `unknown ${id}`
    return `${label(clients, client)} × ${label(servers, server)}: ${operation}`
  }
  return [
    ...cells.flatMap((cell) =>
      cell.outcome.kind === 'fails' && !expected.some((entry) => same(entry, cell))
        ? [`${name(cell)}: ${cell.outcome.reason}`]
        : [],
    ),
    ...expected.flatMap((entry) =>
      cells.some((cell) => same(cell, entry) && cell.outcome.kind === 'fails')
        ? []
        : [`${name(entry)}: listed as failing and does not fail: take it off the list`],
    ),
  ]
}

/** One pair's line while the run goes on: how long each operation took. */
export function times(client: Named, server: Named, cells: readonly Cell[]): string {
  const tried = cells.filter(({ outcome }) => outcome.kind !== 'unable')
  const seconds = (ms: number): string => (ms / 1000).toFixed(1)
  const each = tried.map(
    ({ operation, outcome, ms }) => `${operation} ${seconds(ms)}${outcome.kind === 'fails' ? ' FAILS' : ''}`,
  )
  const all = seconds(tried.reduce((sum, { ms }) => sum + ms, 0))
  return `${`${client.label} × ${server.label}`.padEnd(45)} ${all.padStart(5)} s: ${each.join(', ')}`
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [row(head), row(head.map((_, index) => (index === 0 ? '---' : ':-:'))), ...rows.map(row)].join('\n')

/** Clients × servers: how many operations work of those that the client can do. */
export function summary({ clients, servers, cells }: Matrix): string {
  const count = (client: string, server: string): string => {
    const pair = cells.filter((cell) => cell.client === client && cell.server === server)
    const possible = pair.filter(({ outcome }) => outcome.kind !== 'unable')
    const works = possible.filter(({ outcome }) => outcome.kind === 'works')
    return `${works.length}/${possible.length}`
  }
  return table(
    ['', ...servers.map(({ label }) => label)],
    clients.map(({ id, label }) => [label, ...servers.map((server) => count(id, server.id))]),
  )
}

/** The whole of docs/interop.md. Holds nothing that changes from run to run. */
export function page(matrix: Matrix): string {
  const { clients, servers, cells, expected } = matrix
  const notes: string[] = []
  const note = (text: string): string => {
    if (!notes.includes(text)) notes.push(text)
    return `<sup>${notes.indexOf(text) + 1}</sup>`
  }
  const mark = (client: string, server: string, operation: Operation): string => {
    const at = { client, server, operation }
    const outcome = cells.find((cell) => same(cell, at))?.outcome
    if (!outcome) return '?'
    if (outcome.kind === 'works') return '✓'
    if (outcome.kind === 'unable') return `–${note(outcome.reason)}`
    return `✗${note(expected.find((entry) => same(entry, at))?.reason ?? 'fails')}`
  }
  const sections = servers.map(
    (server) =>
      `## ${server.label}\n\n${table(
        ['', ...operations],
        clients.map((client) => [
          client.label,
          ...operations.map((operation) => mark(client.id, server.id, operation)),
        ]),
      )}\n`,
  )
  return `# Interoperability

Clients and servers that others wrote, each pair through the whole gateway: TLS at front, a token of a person who signed in, policy,
and one process per part. Written by \`npm run interop\`; \`npm run interop -- --check\` fails where a run gives another table.

- **connect**: the client agrees with the gateway on its protocol version. **list**: the server's tools stand in the listing.
- **call**, **read**, **prompt**: a tool, a resource and a prompt of the server come back with its words.
- **progress**: at least two rising steps arrive during the call. **cancel**: the client gives up and the server is told.
- **elicit**: the server asks the person a form in mid-call, the client answers, and the server's result holds the answer.

How many of the eight work, of those that the client can do:

${summary(matrix)}

${sections.join('\n')}${notes.length === 0 ? '' : `\n${notes.map((text, index) => `${index + 1}. ${text}`).join('\n')}\n`}`
}

const marks = ['<!-- npm run interop -->', '<!-- /npm run interop -->'] as const

/** A document with the summary between its marks; throws where it has none. */
export function withSummary(document: string, matrix: Matrix): string {
  const [start, end] = marks.map((mark) => document.indexOf(mark))
  if (start === undefined || end === undefined || start < 0 || end < start) {
    throw new Error(`README.md has no ${marks.join(' … ')}`)
  }
  return `${document.slice(0, start + marks[0].length)}\n\n${summary(matrix)}\n\n${document.slice(end)}`
}
