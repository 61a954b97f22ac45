import type { Decision } from '../../../shared/policy.ts'
import type { ContentGuard, GuardPhase } from '../../../shared/wire/content-security.ts'
import { looksAt } from '../guard/guards.ts'
import type { Checked } from '../guard/types.ts'
import type { Context } from './context.ts'
import { ContentRefused, guardsOf, inspector } from './guarded.ts'
import { isObject } from './protocol/jsonrpc.ts'
import type { JsonObject, JsonRpcNotification } from './protocol/types.ts'

/** What a client may be told of what its server says before the answer; undefined: nothing. */
export type Tell = (
  notice: JsonRpcNotification,
) => JsonRpcNotification | undefined | Promise<JsonRpcNotification | undefined>

const asItIs: Tell = (notice) => notice

/** The phase that the answer to a method is looked at in. */
const answerPhases: Readonly<Record<string, GuardPhase>> = {
  'prompts/get': 'prompt',
  'resources/read': 'resource',
  'completion/complete': 'completion',
}

/**
 * What guards may not see in an answer must not go around them in progress and log messages: where one looks at
 * answers and not at notices, a notice goes without what its server has written.
 */
export function noticesOf(
  context: Context,
  decision: Decision,
  about: Omit<Checked, 'user' | 'client' | 'content' | 'phase'>,
  method: string,
): Tell {
  const guards = guardsOf(context, decision)
  if (guards.length === 0) return asItIs
  if (withholds(guards, answerPhases[method] ?? 'output')) return bare
  const inspect = inspector(context, decision, { ...about, phase: 'notice' })
  if (!inspect) return asItIs
  return async (notice) => {
    try {
      const { method, params = {} } = notice
      const { progressToken, ...said } = params
      const { content } = await inspect({ method, params: said })
      const seen = (content as JsonObject).params
      return { ...notice, params: { ...(isObject(seen) ? seen : {}), progressToken } }
    } catch (error) {
      if (error instanceof ContentRefused) return bare(notice)
      throw error
    }
  }
}

/** Whether a guard looks at answers of this kind that can not be asked about notices. */
export const withholds = (guards: readonly ContentGuard[], answer: GuardPhase): boolean =>
  guards.some((each) => looksAt(each, answer) && !looksAt(each, 'notice'))

/** A notice with nothing in it that its server has written but numbers and ids. */
function bare({ method, params = {}, jsonrpc }: JsonRpcNotification): JsonRpcNotification | undefined {
  switch (method) {
    case 'notifications/progress': {
      const { progressToken, progress, total } = params
      const numbers = { progress, ...(typeof total === 'number' ? { total } : {}) }
      return typeof progress === 'number'
        ? { jsonrpc, method, params: { progressToken, ...numbers } }
        : undefined
    }
    case 'notifications/message':
      return undefined
    case 'notifications/elicitation/complete':
      return { jsonrpc, method, params: { elicitationId: params.elicitationId } }
    default:
      // Changes of lists and resources: the client is told that, and looks for itself.
      return { jsonrpc, method, params: typeof params.uri === 'string' ? { uri: params.uri } : {} }
  }
}
