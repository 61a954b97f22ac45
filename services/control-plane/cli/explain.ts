import { z } from 'zod'
import { type Command, exits, table } from './command.ts'
import { json, jsonObject } from './options.ts'

const decision = z.object({
  allow: z.boolean(),
  reason: z.string(),
  policyId: z.string().nullable(),
  policyVersion: z.number().nullable(),
  rule: z.string().nullable(),
  explanation: z.string(),
})
const answerSchema = z.object({
  snapshotVersion: z.number(),
  server: z.string().optional(),
  tool: z.string().optional(),
  decision,
  steps: z.array(decision.extend({ stage: z.string(), decisive: z.boolean() })),
})

/** Why can Ann not call jira_create? Exit code 1 where the answer is no. */
export const explainCommand: Command = {
  name: 'explain',
  usage: [
    '--user <sub> --client <workload> [--server <id>] [--tool <name>] [--arguments <json>]',
    'what policy says and why, by the function that decides; also --see (a listing), --client-id, --ip, --at <time>, --claims <json>',
  ],
  options: {
    user: { type: 'string', required: true },
    client: { type: 'string', required: true },
    'client-id': { type: 'string' },
    server: { type: 'string' },
    tool: { type: 'string' },
    arguments: { type: 'string', parse: json },
    claims: { type: 'string', parse: jsonObject },
    see: { type: 'boolean' },
    ip: { type: 'string' },
    at: { type: 'string' },
  },
  run: async ({ values, api }) => {
    const asked = {
      user: values.user,
      clientWorkload: values.client,
      clientId: values['client-id'],
      server: values.server,
      tool: values.tool,
      to: values.see ? 'see' : undefined,
      arguments: values.arguments,
      claims: values.claims,
      clientIp: values.ip,
      at: values.at,
    }
    const data = answerSchema.parse(await api().call('POST', 'access-policies/explain', asked))
    const { allow, reason, policyId, policyVersion, rule, explanation } = data.decision
    const what = [
      values.see ? 'see' : data.tool === undefined ? 'reach' : 'call',
      ...(data.tool === undefined ? [] : [data.tool, 'of']),
      data.server ?? 'the gateway',
    ].join(' ')
    const lines = [
      `${allow ? 'ALLOWED' : 'DENIED'}  ${String(values.user)} by ${String(values.client)} ${allow ? 'may' : 'may not'} ${what}`,
      '',
      `why     ${reason}: ${explanation}`,
      ...(policyId === null
        ? []
        : [`policy  ${policyId}, version ${policyVersion}${rule === null ? '' : `, ${rule}`}`]),
      `as of   policy version ${data.snapshotVersion}`,
      '',
      table([
        ['looked at', 'policy', 'says', 'why'],
        ...data.steps.map((step) => [
          `${step.decisive ? '>' : ' '} ${step.stage}`,
          step.policyId ?? '-',
          step.allow ? 'yes' : 'no',
          step.explanation,
        ]),
      ]),
    ]
    return { text: lines.join('\n'), data, exit: allow ? exits.done : exits.refused }
  },
}
