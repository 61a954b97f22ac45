import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'
import { parseConfig } from '../../../services/control-plane/config/load.ts'
import { compileSnapshot } from '../../../services/control-plane/policy/compile.ts'
import {
  type Circumstances,
  decideKind,
  explain,
  indexSnapshot,
  type Location,
  type Principal,
  reasonCodes,
} from '../../../shared/policy.ts'
import type { Block } from '../../../shared/wire/snapshot.ts'
import { proves } from '../../requirements.ts'

type Section = Record<string, unknown>[]
interface Person {
  subject: string
  idp?: string
  kind?: 'client'
  client?: string
  claims: Record<string, unknown>
}
interface World {
  configuration: Record<string, unknown>
  people: Record<string, Person>
  places: Record<string, Location>
}
interface When {
  who: string
  claims?: Record<string, unknown>
  issuer?: string
  idp?: string
  client?: string
  agent?: string
  reaches?: string
  sees?: string
  calls?: string
  uses?: 'prompts' | 'resources'
  on?: string
  with?: unknown
  annotations?: unknown
  at?: string
  from?: string
  browser?: string
  without?: 'database'
}
interface File {
  about: string
  given: Record<string, Section> & {
    blocks?: Omit<Block, 'since'>[]
    people?: Record<string, Person>
    /** Policies that are for clients without a person. */
    forClients?: string[]
    more?: Record<string, Section>
    /** Ids of trust providers, conditions and content security that are taken out of the snapshot. */
    lost?: string[]
  }
  cases: { it: string; when: When; then: string }[]
}

const folder = import.meta.dirname
const read = (name: string): unknown => parse(readFileSync(`${folder}/${name}`, 'utf8'))
const world = read('world.yaml') as World

/** Sections of a file replace policies and join everything else of the world. */
function configurationOf(given: File['given']): string {
  const {
    blocks: _blocks,
    people: _people,
    forClients: _forClients,
    lost: _lost,
    more = {},
    ...sections
  } = given
  const file: Record<string, unknown> = { ...world.configuration }
  for (const [name, entries] of Object.entries(sections)) {
    const former = name === 'accessPolicies' ? [] : ((file[name] ?? []) as Section)
    file[name] = [...former, ...(entries as Section), ...(more[name] ?? [])]
  }
  return JSON.stringify(file)
}

let count = 0
const reasons = new Set<string>()
for (const name of readdirSync(folder).filter((each) => each.endsWith('.yaml') && each !== 'world.yaml')) {
  const { about, given, cases } = read(name) as File
  t.test(about, async (t) => {
    const config = parseConfig(configurationOf(given), name)
    const compiled = compileSnapshot(config, {
      version: 1,
      issuedAt: '2026-11-23T10:00:00.000Z',
      issuerKeys: { keys: [] },
      revocations: [],
    })
    const there = ({ id }: { id: string }): boolean => !given.lost?.includes(id)
    const index = indexSnapshot({
      ...compiled,
      trustProviders: compiled.trustProviders.filter(there),
      accessConditions: compiled.accessConditions?.filter(there),
      contentSecurity: compiled.contentSecurity?.filter(there),
      blocks: (given.blocks ?? []) as Block[],
      policies: compiled.policies.map((policy) =>
        given.forClients?.includes(policy.id) ? { ...policy, subjects: ['client'] } : policy,
      ),
    })
    for (const { it, when, then } of cases) {
      count++
      const person = { ...world.people, ...given.people }[when.who]
      if (!person) throw new Error(`${name}: "${it}" names nobody: ${when.who}`)
      const issuer = when.issuer ?? 'https://gw.example.com'
      const principal: Principal = {
        issuer,
        subject: person.subject,
        clientId: when.agent ?? 'agent-1',
        ...(person.kind ? { kind: person.kind } : {}),
        clientWorkload: when.client ?? person.client ?? 'desktop',
        identityProvider: when.idp ?? person.idp,
        claims: {
          iss: issuer,
          aud: 'https://gw.example.com/mcp',
          ...(when.claims ?? person.claims),
          ...(when.browser === undefined ? {} : { browser_ip: when.browser }),
        },
      }
      const circumstances: Circumstances = {
        now: Date.parse(when.at ?? '2026-11-23T10:00:00Z'),
        clientIp: when.from,
        locate: when.without === 'database' ? undefined : (address) => world.places[address],
      }
      const tool = when.sees ?? when.calls
      const ask = {
        serverId: when.reaches ?? when.on,
        tool: tool === undefined ? undefined : { name: tool, annotations: when.annotations },
        to: when.sees === undefined ? ('call' as const) : ('see' as const),
        args: when.with,
      }
      const { decision: explained, steps } = explain(index, principal, ask, circumstances)
      const decision = when.uses ? decideKind(index, explained, when.uses) : explained
      reasons.add(decision.reason)
      const of = decision.policyId === null ? '' : ` of ${decision.policyId}`
      const by = decision.rule === null ? '' : ` by ${decision.rule}`
      const said = decision.allow ? `allow by ${decision.policyId}` : `deny ${decision.reason}${by}${of}`
      t.equal(said, then, it)
      t.equal(
        steps.findLast(({ decisive }) => decisive)?.reason,
        explained.reason,
        'the last decisive step is the decision',
      )
      t.notMatch(decision.explanation, person.subject, 'explanations name rules, not people')
    }
  })
}

t.test('there are enough of them', async (t) => {
  proves(t, 'POLICY-07')
  t.ok(count >= 150, `${count} cases`)
  t.same(
    reasonCodes.filter((code) => !reasons.has(code)),
    [],
    'and every reason comes up',
  )
  const page = readFileSync(`${folder}/../../../docs/policy.md`, 'utf8')
  t.same(
    reasonCodes.filter((code) => !page.includes(`\`${code}\``)),
    [],
    'and is explained',
  )
})
