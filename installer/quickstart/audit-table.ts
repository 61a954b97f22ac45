/** The audit trail as a table for a terminal. Shapes as in shared/wire/event.ts, read leniently. */
export interface TrailEvent {
  readonly meta: { readonly timestamp: string; readonly eventType: string; readonly policyId: string | null }
  readonly workload: { readonly server: { readonly name: string } | null }
  readonly outcome: { readonly result: string; readonly reason?: string; readonly reasonCode?: string }
  readonly application: {
    readonly mcp: {
      readonly mcpMethod: string
      readonly mcpToolName?: string
      readonly httpResponseCode?: number
      readonly userId?: string
      readonly durationMs?: number
    }
  }
}

const columns: readonly [string, (event: TrailEvent) => string | number | undefined | null][] = [
  ['time', ({ meta }) => meta.timestamp.slice(11, 23)],
  ['event', ({ meta }) => meta.eventType.replace('mcp.', '')],
  ['method', ({ application }) => application.mcp.mcpMethod],
  ['server', ({ workload }) => workload.server?.name],
  ['tool', ({ application }) => application.mcp.mcpToolName],
  ['user', ({ application }) => application.mcp.userId],
  ['policy', ({ meta }) => meta.policyId],
  ['outcome', ({ outcome }) => outcome.result],
  ['reason', ({ outcome }) => outcome.reasonCode ?? outcome.reason],
  ['http', ({ application }) => application.mcp.httpResponseCode],
  ['ms', ({ application }) => application.mcp.durationMs?.toFixed(1)],
]

/** Oldest first; a request before its response, where both are of the same millisecond. */
export function auditTable(events: readonly TrailEvent[]): string {
  const key = ({ meta }: TrailEvent): string =>
    meta.timestamp + (meta.eventType === 'mcp.request' ? '0' : '1')
  const sorted = [...events].sort((a, b) => key(a).localeCompare(key(b)))
  const rows = [
    columns.map(([title]) => title),
    ...sorted.map((event) => columns.map(([, cell]) => String(cell(event) ?? ''))),
  ]
  const used = columns.map((_, column) => rows.slice(1).some((row) => row[column] !== ''))
  const widths = columns.map((_, column) =>
    Math.min(36, Math.max(...rows.map((row) => row[column]?.length ?? 0))),
  )
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (used[column] ? cell.slice(0, 36).padEnd(widths[column] ?? 0) : ''))
      .filter((_, column) => used[column])
      .join('  ')
      .trimEnd()
  const [head = [], ...body] = rows
  return [line(head), line(head.map((_, column) => '─'.repeat(widths[column] ?? 0))), ...body.map(line)].join(
    '\n',
  )
}
