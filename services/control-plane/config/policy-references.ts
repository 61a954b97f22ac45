import type { ProblemAt } from './messages.ts'
import { celReads } from './policy-schema.ts'
import type { List } from './references.ts'

/** Here too decisions are made on place: tokens and credentials go out only where the conditions hold. */
export function geoNeedsDatabase(problems: ProblemAt[], geoip: unknown, conditions: List): void {
  if (geoip !== undefined) return
  for (const [index, { type }] of conditions) {
    if (type !== 'AembitGeoIPCondition') continue
    problems.push({
      path: ['accessConditions', index, 'type'],
      message:
        'needs a GeoIP database, add geoip: {database: <file>} here and AEMBIT_GEOIP_DATABASE_PATH at each gateway',
    })
  }
}

/** What a policy for the gateway can not decide on: there is no server and no tool yet. */
export function gatewayPolicies(problems: ProblemAt[], policies: List, conditions: List): void {
  for (const [index, policy] of policies) {
    if (policy.server !== 'gateway') continue
    if (Array.isArray(policy.contentSecurity) && policy.contentSecurity.length > 0) {
      problems.push({
        path: ['accessPolicies', index, 'contentSecurity'],
        message: 'belongs to policies that name a server workload, remove it',
      })
    }
    const named: unknown[] = Array.isArray(policy.accessConditions) ? policy.accessConditions : []
    for (const [position, id] of named.entries()) {
      const expression = conditions.find(([, entry]) => entry.id === id)?.[1].expression
      const reads = typeof expression === 'string' ? celReads(expression) : []
      const unfit = reads.filter((name) => name === 'server' || name === 'tool' || name === 'args')
      if (unfit.length === 0) continue
      problems.push({
        path: ['accessPolicies', index, 'accessConditions', position],
        message: `"${String(id)}" reads ${unfit.join(' and ')}, which there is not when someone enters the gateway; name it in a policy of a server workload`,
      })
    }
  }
}
