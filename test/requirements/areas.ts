import { credentials } from './credentials.ts'
import { gateway } from './gateway.ts'
import { http } from './http.ts'
import { identity } from './identity.ts'
import { mcp } from './mcp.ts'
import { operations } from './operations.ts'
import { policy } from './policy.ts'
import { providers } from './providers.ts'
import type { Area } from './requirement.ts'
import { sessions } from './sessions.ts'

/** In the order in which docs/requirements.md has them. */
export const areas = [
  mcp,
  sessions,
  http,
  credentials,
  identity,
  providers,
  policy,
  gateway,
  operations,
] as const satisfies readonly Area[]
export type Areas = typeof areas
