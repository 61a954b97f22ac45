import { bearerToken } from '../auth/bearer.ts'
import type { TokenVerifier, Verified } from '../auth/verifier.ts'
import type { Exchange } from '../exchange.ts'
import type { Run } from '../pipeline.ts'
import type { SnapshotHolder } from '../snapshot.ts'

export interface AuthenticateDeps {
  readonly snapshots: SnapshotHolder
  readonly verifier: TokenVerifier
}

/**
 * Who is calling? Nothing of the body is read before this is known. The snapshot taken here is the one the whole
 * request is decided on; without a current one nobody can be known.
 */
export function authenticate({ snapshots, verifier }: AuthenticateDeps): Run {
  return (x) => {
    const token = bearerToken(x.req.url ?? '', x.req.rawHeaders)
    x.index = snapshots.require()
    const verified = verifier.verify(token)
    if (!(verified instanceof Promise)) return admit(x, verified)
    return verified.then((late) => admit(x, late))
  }
}

function admit(x: Exchange, verified: Verified): void {
  x.verified = verified
}
