import type { Logger } from '../../shared/log.ts'
import { Lines } from './lines.ts'

const maxLineBytes = 2_000
const maxLines = 50
const windowMs = 10_000

/**
 * What a server writes to stderr, as log lines of ours: cut, at most 50 in ten seconds with the rest counted, and
 * without the secrets it was started with.
 */
export function stderrLog(log: Logger, secrets: readonly string[], now: () => number) {
  // Lines are looked at one by one, so are those of a key. Short values would blank out ordinary words.
  const hidden = secrets
    .flatMap((secret) => [secret, ...secret.split(/\r?\n/)])
    .filter((secret) => secret.length >= 6)
  let windowStart = 0
  let written = 0
  let left = 0

  const lines = new Lines(
    maxLineBytes,
    (line) => write(line),
    () => write('(a line that is too long)'),
  )
  const write = (line: string): void => {
    if (now() - windowStart >= windowMs) {
      if (left > 0) log.warn({ left }, 'lines of stderr were left out')
      windowStart = now()
      written = 0
      left = 0
    }
    if (written >= maxLines) {
      left++
      return
    }
    written++
    let clean = line
    for (const secret of hidden) clean = clean.replaceAll(secret, '•••')
    log.info({ stderr: clean }, 'server says')
  }
  return (chunk: Buffer): void => lines.push(chunk)
}
