import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import type { ToolAccessControl } from '../../../shared/wire/content-security.ts'
import type { AccessCondition, Snapshot } from '../../../shared/wire/snapshot.ts'
import { proves } from '../../requirements.ts'
import { type Handler, ok, post, startLegacy } from './legacy-server.ts'
import { modernMeta } from './modern-server.ts'
import { startRig } from './rig.ts'

const control = (more: Partial<ToolAccessControl>): ToolAccessControl => ({
  type: 'AembitMcpToolAccessControl',
  id: 'acl',
  name: 'CRM tools',
  mode: 'Allow',
  visibility: 'All',
  visibilityEntries: [],
  invocation: 'All',
  invocationEntries: [],
  prompts: 'All',
  resources: 'All',
  ...more,
})

const withControls =
  (controls: ToolAccessControl[], conditions: AccessCondition[] = []) =>
  (snapshot: Snapshot): Snapshot => ({
    ...snapshot,
    contentSecurity: controls,
    accessConditions: conditions,
    policies: snapshot.policies.map((policy) => ({
      ...policy,
      contentSecurity: controls.map(({ id }) => id),
      accessConditions: conditions.map(({ id }) => id),
    })),
  })

const lists: Record<string, Handler> = {
  'tools/list': (body, response) =>
    answer(body, response, {
      tools: [
        { name: 'get_deal', inputSchema: { type: 'object' }, annotations: { readOnlyHint: true } },
        { name: 'list_deals', inputSchema: { type: 'object' }, annotations: { readOnlyHint: true } },
        { name: 'delete_deal', inputSchema: { type: 'object' } },
      ],
    }),
  'prompts/list': (body, response) => answer(body, response, { prompts: [{ name: 'greet' }] }),
  'prompts/get': (body, response) => answer(body, response, { messages: [] }),
  'resources/list': (body, response) =>
    answer(body, response, { resources: [{ uri: 'note://1', name: 'one' }] }),
  'resources/templates/list': (body, response) => answer(body, response, { resourceTemplates: [] }),
  'resources/read': (body, response) =>
    answer(body, response, { contents: [{ uri: 'note://1', text: 'hello' }] }),
}

function answer(body: { id?: number }, response: Parameters<Handler>[1], result: JsonObject): void {
  response
    .writeHead(200, { 'content-type': 'application/json' })
    .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result }))
}

type Test = Parameters<Parameters<typeof t.test>[0]>[0]

async function world(t: Test, change: (snapshot: Snapshot) => Snapshot, now?: () => number) {
  const rig = await startRig(now ? { now } : {})
  const server = await startLegacy(ok, {
    capabilities: { tools: {}, prompts: {}, resources: {} },
    methods: lists,
  })
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'crm', url: server.url }], [], change)
  return {
    rig,
    server,
    names: async (kind = 'tools'): Promise<string[]> => {
      const { last } = await post(rig, `${kind}/list`)
      return (last.result![kind] as JsonObject[]).map(({ name }) => String(name))
    },
    call: async (name: string, args: JsonObject = {}) =>
      (await post(rig, 'tools/call', { name, arguments: args })).last,
    called: () => server.seen.filter(({ method }) => method === 'tools/call').length,
  }
}
t.test('a hidden tool is not listed and stays callable', async (t) => {
  proves(t, 'POLICY-TOOLS-01')
  const { rig, names, call } = await world(
    t,
    withControls([control({ visibility: 'Specific', visibilityEntries: ['get_*', 'list_?eals'] })]),
  )
  t.same(await names(), ['crm_get_deal', 'crm_list_deals'])
  const listed = rig.events.find(({ type, server }) => type === 'response' && server)
  t.same(listed?.contentSecurity, {
    aembitMcpToolsAcl: { decision: 'filtered', control: 'visible', toolsRemoved: 1, toolsReturned: 2 },
  })
  t.ok((await call('crm_delete_deal')).result)
  const asked = rig.events.findLast(({ type }) => type === 'request')
  t.match(asked, {
    toolName: 'delete_deal',
    contentSecurity: { aembitMcpToolsAcl: { decision: 'allowed', control: 'invocable' } },
  })
})

t.test('a blocked tool does not reach its server, whatever the client', async (t) => {
  proves(t, 'POLICY-TOOLS-02')
  const { rig, names, call, called } = await world(
    t,
    withControls([
      control({
        mode: 'Block',
        visibility: 'Specific',
        invocation: 'Specific',
        invocationEntries: ['delete_*'],
      }),
    ]),
  )
  t.same(await names(), ['crm_get_deal', 'crm_list_deals', 'crm_delete_deal'], 'nothing is hidden')
  const { error } = await call('crm_delete_deal')
  t.match(error, { code: 4030, data: { name: 'crm_delete_deal', decision: 'tool_blocked' } })
  const modern = await post(
    rig,
    'tools/call',
    { name: 'crm_delete_deal', arguments: {}, _meta: modernMeta },
    { 'mcp-method': 'tools/call', 'mcp-name': 'crm_delete_deal' },
  )
  t.ok(modern.last.error)
  t.equal(called(), 0)
  const event = rig.events.findLast(({ type }) => type === 'response')
  t.match(event, {
    outcome: 'Error',
    reasonCode: 'tool_blocked',
    toolName: 'delete_deal',
    decision: { policyId: 'p-crm', policyVersion: 1, rule: 'contentSecurity:acl' },
    contentSecurity: {
      aembitMcpToolsAcl: { decision: 'blocked', control: 'invocable', matchedRules: ['delete_*'] },
    },
  })
  t.ok((await call('crm_get_deal')).result)
})

t.test('lists without an entry: Allow lets nothing through, Block everything', async (t) => {
  proves(t, 'POLICY-TOOLS-03')
  const none = { visibility: 'Specific', invocation: 'Specific' } as const
  const allow = await world(t, withControls([control({ ...none })]))
  t.same(await allow.names(), [])
  t.match((await allow.call('crm_get_deal')).error, { data: { decision: 'tool_blocked' } })
  const block = await world(t, withControls([control({ ...none, mode: 'Block' })]))
  t.equal((await block.names()).length, 3)
  t.ok((await block.call('crm_get_deal')).result)
})

t.test('of two controls both must let a tool through', async (t) => {
  proves(t, 'POLICY-TOOLS-04')
  const { names } = await world(
    t,
    withControls([
      control({ id: 'a', visibility: 'Specific', visibilityEntries: ['*_deal'] }),
      control({
        id: 'b',
        mode: 'Block',
        visibility: 'Specific',
        visibilityEntries: ['get_*'],
        invocation: 'Specific',
      }),
    ]),
  )
  t.same(await names(), ['crm_delete_deal'])
})

t.test('prompts and resources of a server can be switched off', async (t) => {
  proves(t, 'POLICY-TOOLS-05')
  const { rig, server, names } = await world(
    t,
    withControls([control({ prompts: 'None', resources: 'None' })]),
  )
  t.same(await names('prompts'), [])
  t.same(await names('resources'), [])
  t.equal((await names()).length, 3)
  const prompt = await post(rig, 'prompts/get', { name: 'crm_greet' })
  t.match(prompt.last.error, { data: { decision: 'prompts_blocked' } })
  const completion = await post(rig, 'completion/complete', {
    ref: { type: 'ref/prompt', name: 'crm_greet' },
    argument: { name: 'x', value: '' },
  })
  t.match(completion.last.error, { data: { decision: 'prompts_blocked' } })
  t.ok((await post(rig, 'resources/read', { uri: 'note://1' })).last.error)
  t.notOk(
    server.seen.some(({ method }) => /^(prompts|resources|completion)/.test(method)),
    'the server was not asked',
  )
})

t.test(
  'conditions on annotations hide and stop a tool; those on arguments stop the call alone',
  async (t) => {
    const { rig, names, call, called } = await world(
      t,
      withControls(
        [],
        [
          { type: 'CelCondition', id: 'ro', name: 'read only', expression: 'tool.annotations.readOnlyHint' },
          {
            type: 'CelCondition',
            id: 'small',
            name: 'small deals',
            expression: 'tool.name != "get_deal" || (has(args.amount) && args.amount <= 100)',
          },
        ],
      ),
    )
    t.match(
      (await call('crm_delete_deal')).error,
      { data: { decision: 'cel_mismatch' } },
      'before any listing',
    )
    t.same(await names(), ['crm_get_deal', 'crm_list_deals'])
    t.match((await call('crm_get_deal', { amount: 101 })).error, { data: { decision: 'cel_mismatch' } })
    t.match((await call('crm_get_deal', { amount: 'many' })).error, { data: { decision: 'cel_error' } })
    t.equal(called(), 0)
    t.ok((await call('crm_get_deal', { amount: 100 })).result)
    t.match(
      rig.events.findLast(({ outcome }) => outcome === 'Error'),
      {
        decision: { rule: 'accessCondition:small', policyId: 'p-crm' },
      },
    )
  },
)

t.test('a condition on time is asked at each request, on either side of its edge', async (t) => {
  proves(t, 'POLICY-TIME-01')
  let now = Date.parse('2026-11-23T16:59:59.000Z')
  const { names, call } = await world(
    t,
    withControls(
      [],
      [
        {
          type: 'AembitTimeCondition',
          id: 'office',
          name: 'office hours',
          timezone: 'Europe/Berlin',
          schedule: [{ startTime: '09:00', endTime: '18:00', weekDay: { name: 'Monday' } }],
        },
      ],
    ),
    () => now,
  )
  t.equal((await names()).length, 3)
  t.ok((await call('crm_get_deal')).result)
  now += 1_000
  t.same(await names(), [])
  t.match((await call('crm_get_deal')).error, { data: { decision: 'time_mismatch' } })
  now -= 1
  t.ok((await call('crm_get_deal')).result)
})
