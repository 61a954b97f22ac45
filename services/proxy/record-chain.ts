import { eventDigest, linked } from '../../shared/wire/event-chain.ts'

/**
 * Puts each event behind the one before it: `audit verify` finds what is cut out, changed or moved later. `id` names the
 * chain, a UUID of this process. An event that `append` drops takes no number; what the disk loses afterwards leaves a gap.
 */
export function chained(id: string, append: (line: string) => boolean): (event: string) => void {
  let seq = 1
  let prev = ''
  return (event) => {
    const line = linked(event, { id, seq, prev })
    if (!append(line)) return
    seq++
    prev = eventDigest(line)
  }
}
