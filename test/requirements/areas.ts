import { mcp } from './mcp.ts'
import type { Area } from './requirement.ts'

/** In the order in which docs/requirements.md has them. */
export const areas = [mcp] as const satisfies readonly Area[]
export type Areas = typeof areas
