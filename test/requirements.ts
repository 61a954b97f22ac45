import { type Areas, areas } from './requirements/areas.ts'

/**
 * What the product promises, one row per behaviour, each with where the promise comes from. A test says what it shows by
 * `proves(t, 'MCP-TOOLS-01')`. An id that no test shows fails the checks, an id that is not here does not compile, and
 * `npm test` fails where a test that cites an id did not run or did not pass.
 */
type KeysOf<T> = T extends unknown ? keyof T : never
export type RequirementId = KeysOf<Areas[number]['rows']> & string

/** Where a comment of a running test goes; tap's `t` is one. */
interface Commenter {
  comment(text: string): void
}

/** Says that the test which runs shows these requirements, once it has passed with all that encloses it. */
export function proves(t: Commenter, ...ids: readonly [RequirementId, ...RequirementId[]]): void {
  t.comment(`proves: ${ids.join(' ')}`)
}

export { areas }
