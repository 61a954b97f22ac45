import type { PolicyIndex } from '../../../../shared/policy.ts'
import type { Access } from '../access.ts'

const rules = new WeakMap<PolicyIndex, string>()

/** What the merged lists of a person depend on besides the servers themselves: another value means other lists. */
export function fingerprint({ index, allowed, decisions }: Access): string {
  let shared = rules.get(index)
  if (shared === undefined) {
    shared = JSON.stringify(index.snapshot.contentSecurity ?? [])
    rules.set(index, shared)
  }
  const own = allowed.map(({ id, url, prefix }) => {
    const decision = decisions.get(id)
    return [id, url, prefix, decision?.policyId, decision?.policyVersion]
  })
  return shared + JSON.stringify(own)
}
