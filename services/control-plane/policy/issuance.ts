import type { Clock } from '../../../shared/clock.ts'
import type { Circumstances, Locate, PolicyIndex } from '../../../shared/policy.ts'
import type { IssuancePolicy } from '../authorization/gate.ts'
import type { Config } from '../config/schema.ts'
import { claimsRead } from './claims.ts'

export type CircumstancesOf = (address: string | undefined) => Circumstances

/** Now, and where an address is. An address that nobody told is none, not the empty one. */
export function createCircumstances(clock: Clock, locate: () => Locate | undefined): CircumstancesOf {
  return (address) => ({ now: clock.now(), clientIp: address || undefined, locate: locate() })
}

const read = new WeakMap<Config, ReadonlySet<string>>()

/** The snapshot in force, as the authorization server decides by it. */
export function issuancePolicy(
  config: Config,
  index: PolicyIndex,
  { now, locate }: Circumstances,
): IssuancePolicy {
  let claims = read.get(config)
  if (!claims) {
    claims = claimsRead(config)
    read.set(config, claims)
  }
  const place = config.accessConditions.some(({ type }) => type === 'AembitGeoIPCondition')
  return { index, now, claims, place, locate }
}
