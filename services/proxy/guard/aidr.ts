import { z } from 'zod'
import type { GuardPhase } from '../../../shared/wire/content-security.ts'
import type { Checked, Dialect, GuardAnswer } from './types.ts'

/**
 * CrowdStrike AI Detection and Response: POST <baseUrl>/v1/guard_chat_completions. Tools of a listing go as `tools`,
 * arguments and each text of a result as a message; a changed message takes the place of what it was made of.
 */
const answerSchema = z.object({
  request_id: z.string().optional(),
  result: z.object({
    blocked: z.boolean().nullish(),
    transformed: z.boolean().nullish(),
    guard_output: z
      .object({
        messages: z.array(z.object({ content: z.unknown() })).optional(),
        tools: z.array(z.unknown()).optional(),
      })
      .nullish(),
    detectors: z.record(z.string(), z.object({ detected: z.boolean().nullish() }).nullish()).nullish(),
  }),
})

/** All that is documented for MCP: of everything else this guard is not asked. */
const eventTypes = { listing: 'tool_listing', input: 'tool_input', output: 'tool_output' } as const
export const isAidrPhase = (phase: GuardPhase): phase is keyof typeof eventTypes =>
  Object.hasOwn(eventTypes, phase)

export function aidrDialect(baseUrl: string): Dialect {
  return {
    url: `${baseUrl.replace(/\/+$/, '')}/v1/guard_chat_completions`,
    body: (checked) => ({
      guard_input:
        checked.phase === 'listing'
          ? { messages: [], tools: toolsOf(checked.content).map(asFunction) }
          : { messages: partsOf(checked).map((content) => ({ role: 'tool', content })) },
      event_type: isAidrPhase(checked.phase) ? eventTypes[checked.phase] : checked.phase,
      app_id: checked.client.id,
      user_id: checked.user.email ?? checked.user.subject,
      ...(checked.client.ip === undefined ? {} : { source_ip: checked.client.ip }),
      extra_info: {
        app_name: 'MCP Identity Gateway',
        mcp_tools: [
          { server_name: checked.server.name, tools: checked.tool === undefined ? [] : [checked.tool] },
        ],
      },
    }),
    read(body, checked): GuardAnswer {
      const { request_id, result } = answerSchema.parse(body)
      const detected = Object.entries(result.detectors ?? {})
        .filter(([, found]) => found?.detected)
        .map(([name]) => name)
      const said = {
        ...(request_id === undefined ? {} : { requestId: request_id.slice(0, 100) }),
        ...(detected.length === 0 ? {} : { reason: detected.join(', ').slice(0, 200) }),
      }
      if (result.blocked) return { decision: 'blocked', ...said }
      if (!result.transformed) return { decision: 'allowed', ...said }
      const content = changed(checked, result.guard_output ?? {})
      // A change that can not be put in place must not be left out: what was found would go through.
      if (content === undefined)
        return { decision: 'blocked', ...said, reason: said.reason ?? 'not transformable' }
      return { decision: 'transformed', content, ...said }
    },
  }
}

type Item = Record<string, unknown>
const isItem = (value: unknown): value is Item =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const toolsOf = (content: unknown): Item[] => (Array.isArray(content) ? content.filter(isItem) : [])

const asFunction = ({ name, description, inputSchema }: Item) => ({
  type: 'function',
  function: { name, description: description ?? '', parameters: inputSchema ?? {} },
})

/** The texts that are looked at, in an order that finds its way back. */
function partsOf({ phase, content, tool }: Checked): string[] {
  if (phase === 'input') return [JSON.stringify({ tool, arguments: content ?? {} })]
  const result = isItem(content) ? content : {}
  return [
    ...blocksOf(result).flatMap((block) => textOf(block) ?? []),
    ...(result.structuredContent === undefined ? [] : [JSON.stringify(result.structuredContent)]),
  ]
}

const blocksOf = ({ content }: Item): unknown[] => (Array.isArray(content) ? content : [])

/** Of a text, or of the resource that is embedded. */
function textOf(block: unknown): string | undefined {
  if (!isItem(block)) return undefined
  const { text } = isItem(block.resource) ? block.resource : block
  return typeof text === 'string' ? text : undefined
}

const withText = (block: Item, text: unknown): Item =>
  isItem(block.resource) ? { ...block, resource: { ...block.resource, text } } : { ...block, text }

function changed(
  checked: Checked,
  output: { messages?: { content?: unknown }[] | undefined; tools?: unknown[] | undefined },
): unknown {
  if (checked.phase === 'listing') {
    const given = toolsOf(checked.content)
    if (output.tools?.length !== given.length) return undefined
    return given.map((tool, at) => {
      const { function: made } = (output.tools?.[at] ?? {}) as { function?: Item }
      // Names are what calls are made by; a listing whose names change would be of other tools.
      return {
        ...tool,
        description: made?.description ?? tool.description,
        inputSchema: made?.parameters ?? tool.inputSchema,
      }
    })
  }
  const texts = output.messages?.map(({ content }) => content)
  if (!texts || texts.length !== partsOf(checked).length || !texts.every((text) => typeof text === 'string'))
    return undefined
  if (checked.phase === 'input') {
    const made = parsed(texts[0])
    return isItem(made) && isItem(made.arguments) ? made.arguments : undefined
  }
  const result = checked.content as Item
  let at = 0
  const content = Array.isArray(result.content)
    ? result.content.map((each) => (textOf(each) === undefined ? each : withText(each as Item, texts[at++])))
    : result.content
  if (result.structuredContent === undefined) return { ...result, content }
  const structuredContent = parsed(texts.at(-1))
  return structuredContent === undefined ? undefined : { ...result, content, structuredContent }
}

function parsed(text: unknown): unknown {
  try {
    return JSON.parse(String(text))
  } catch {
    return undefined
  }
}
