/** One behaviour. */
export interface Requirement {
  /** The document and its section that asks for it: an RFC, the MCP specification, a document of this product. */
  readonly source: string
  /** What is so, in one sentence that a test can contradict. */
  readonly text: string
}

/** Rows that belong together; the ids are `<AREA>-<TOPIC>-<number>`. A number is never used again for something else. */
export interface Area {
  readonly title: string
  readonly rows: Readonly<Record<string, Requirement>>
}
