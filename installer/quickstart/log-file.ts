import { closeSync, openSync, readFileSync, renameSync, statSync, writeSync } from 'node:fs'

/** A log file that never takes more than twice `maxBytes`: when full it becomes `<name>.1` and a new one starts. */
export interface LogFile {
  readonly path: string
  write(chunk: Uint8Array): void
  /** The last lines, for a report of what went wrong. */
  tail(lines: number): string
  close(): void
}

const defaultMaxBytes = 5 * 1024 * 1024
const tailBytes = 16 * 1024

export function openLogFile(path: string, maxBytes: number = defaultMaxBytes): LogFile {
  let fd = openSync(path, 'a', 0o600)
  let size = statSync(path).size
  let closed = false
  return {
    path,
    write: (chunk) => {
      if (closed) return
      if (size + chunk.length > maxBytes && size > 0) {
        closeSync(fd)
        renameSync(path, `${path}.1`)
        fd = openSync(path, 'a', 0o600)
        size = 0
      }
      size += writeSync(fd, chunk.length > maxBytes ? chunk.subarray(0, maxBytes) : chunk)
    },
    tail: (lines) => {
      const content = readFileSync(path)
      const text = content
        .subarray(Math.max(0, content.length - tailBytes))
        .toString('utf8')
        .trimEnd()
      return text.split('\n').slice(-lines).join('\n')
    },
    close: () => {
      if (!closed) closeSync(fd)
      closed = true
    },
  }
}
