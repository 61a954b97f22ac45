import type { Context } from '../context.ts'
import { listen } from '../notices/listen.ts'
import { subscribe, unsubscribe } from '../notices/subscribe.ts'
import type { Era } from '../protocol/types.ts'
import type { Relayed } from '../relay.ts'
import { callTool, complete, getPrompt } from './calls.ts'
import { list } from './lists.ts'
import { discover, initialize, setLevel } from './opening.ts'
import { readResource } from './resources.ts'
import { task } from './tasks.ts'

export interface Method {
  /** The era that knows the method, where just one does. */
  readonly era?: Era
  /** The name of its time-out in AEMBIT_MCP_GATEWAY_TIMEOUT. */
  readonly timeout?: string
  /** Undefined where the method answered by itself. */
  run(context: Context): Promise<Relayed | undefined>
}

/** Every method of a client that is answered, by us or by a server. What is not here is unknown. */
export const methods: ReadonlyMap<string, Method> = new Map<string, Method>([
  ['initialize', { era: 'legacy', run: initialize }],
  ['server/discover', { era: 'modern', run: discover }],
  ['ping', { era: 'legacy', run: async () => ({ result: {} }) }],
  ['logging/setLevel', { era: 'legacy', run: setLevel }],
  ['tools/list', { run: list('tools') }],
  ['prompts/list', { run: list('prompts') }],
  ['resources/list', { run: list('resources') }],
  ['resources/templates/list', { run: list('resourceTemplates') }],
  ['tools/call', { timeout: 'tools_call', run: callTool }],
  ['prompts/get', { timeout: 'prompts_get', run: getPrompt }],
  ['resources/read', { timeout: 'resources_read', run: (context) => readResource(context) }],
  ['resources/subscribe', { era: 'legacy', run: subscribe }],
  ['resources/unsubscribe', { era: 'legacy', run: unsubscribe }],
  ['subscriptions/listen', { era: 'modern', run: listen }],
  ['tasks/get', { era: 'modern', run: task }],
  ['tasks/update', { era: 'modern', run: task }],
  ['tasks/cancel', { era: 'modern', run: task }],
  ['completion/complete', { timeout: 'completion', run: complete }],
])
