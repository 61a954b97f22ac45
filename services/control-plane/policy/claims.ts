import { compileCel } from '../../../shared/policy/cel.ts'
import type { Config } from '../config/schema.ts'

/** The claims of people that rules of this configuration read: match rules and expressions. */
export function claimsRead(config: Pick<Config, 'trustProviders' | 'accessConditions'>): ReadonlySet<string> {
  const names = config.trustProviders.flatMap(({ matchRules }) =>
    matchRules.flatMap(({ attribute, key }) =>
      attribute === 'OidcCustom' && key !== undefined ? [key] : [],
    ),
  )
  for (const condition of config.accessConditions) {
    if (condition.type === 'CelCondition') names.push(...compileCel(condition.expression).claims)
  }
  return new Set(names)
}
