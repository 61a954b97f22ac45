import { z } from 'zod'
import { type Checked, type Dialect, type GuardAnswer, isListing } from './types.ts'

const answerSchema = z.object({
  decision: z.enum(['allow', 'transform', 'block']),
  content: z.unknown().optional(),
  requestId: z.string().max(100).optional(),
  /** Goes into events, so it is a name, not prose that could repeat what was checked. */
  reason: z
    .string()
    .regex(/^[A-Za-z0-9_.:, -]{1,200}$/)
    .optional()
    .catch(undefined),
})

/** Any service that speaks the schema of README.md. */
export function hookDialect(url: string): Dialect {
  return {
    url,
    body: (checked: Checked) => ({ version: 1, ...checked }),
    read(body, { phase }): GuardAnswer {
      const { decision, content, requestId, reason } = answerSchema.parse(body)
      const said = {
        ...(requestId === undefined ? {} : { requestId }),
        ...(reason === undefined ? {} : { reason }),
      }
      if (decision === 'allow') return { decision: 'allowed', ...said }
      if (decision === 'block') return { decision: 'blocked', ...said }
      const list = isListing(phase)
      const fits = list
        ? Array.isArray(content)
        : typeof content === 'object' && content !== null && !Array.isArray(content)
      if (!fits) throw new Error(`transform of a ${phase} wants ${list ? 'a list' : 'an object'}`)
      return { decision: 'transformed', content, ...said }
    },
  }
}
