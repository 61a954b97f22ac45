/** How a server is asked for what the matrix wants to see; names are the server's own, without the gateway's prefix. */
export interface Dialect {
  /** Gives back the text it is sent. */
  readonly echo: { readonly tool: string; readonly argument: string }
  /** Reports at least two steps of progress. */
  readonly steps: { readonly tool: string; readonly args: Record<string, unknown> }
  /** Runs until it is cancelled, or much longer than a test waits. */
  readonly wait: { readonly tool: string; readonly args: Record<string, unknown> }
  /** Asks the person a form with a `name`, and repeats what they gave. */
  readonly ask: { readonly tool: string }
  readonly resource: { readonly uri: string; readonly text: string }
  readonly prompt: {
    readonly name: string
    readonly args: Record<string, string>
    readonly text: string
  }
}

/** An MCP server behind the gateway. */
export interface Peer {
  readonly id: string
  readonly label: string
  /** Its entry in `serverWorkloads`, beside `id`. */
  readonly workload: Readonly<Record<string, unknown>>
  /** Variables that the gateway needs for it. */
  readonly env?: Readonly<Record<string, string>>
  readonly dialect: Dialect
  /** How often it was told that a call is cancelled. */
  cancellations(): number
  close(): Promise<void>
}

/** The dialect of the servers that are made here. */
export const ownDialect = (id: string): Dialect => ({
  echo: { tool: 'echo', argument: 'message' },
  steps: { tool: 'steps', args: {} },
  wait: { tool: 'wait', args: {} },
  ask: { tool: 'ask' },
  resource: { uri: `${id}://motto`, text: `the motto of ${id}` },
  prompt: { name: 'greet', args: { name: 'Ann' }, text: 'Please greet Ann' },
})

/** A `wait` nobody cancelled ends by itself. */
export const waitsForMs = 60_000
