/** The door of the room `policy/`: what decides, and what it decides on. */
export {
  decideGateway,
  decideKind,
  decideServer,
  decideTool,
  needsAnnotations,
  type ToolQuestion,
  type Trace,
} from './policy/decide.ts'
export { type Ask, type Explanation, explain, type Step } from './policy/explain.ts'
export { browserIpClaim } from './policy/geo.ts'
export { indexSnapshot } from './policy/snapshot-index.ts'
export type {
  Circumstances,
  Decision,
  Locate,
  Location,
  PolicyIndex,
  Principal,
  ReasonCode,
  ToolAccessVerdict,
  ToolDecision,
  ToolFacts,
} from './policy/types.ts'
export { reasonCodes } from './policy/types.ts'
