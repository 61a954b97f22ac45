import { open } from 'node:fs/promises'
import { type WorkloadEvent, workloadEventSchema } from '../../shared/wire/event.ts'

/** One event is a few KiB; a line beyond this is no event. */
const maxLineBytes = 64 << 10
const maxBatchEvents = 1_000
const maxBatchBytes = 512 << 10
/** Proxy seals at 256 KiB; what is far larger is not its work and is not read into memory. */
export const maxSegmentBytes = 16 << 20

export interface SegmentContent {
  readonly batches: readonly (readonly WorkloadEvent[])[]
  /** Lines that are no events, as they stand. */
  readonly bad: readonly string[]
  /** Bytes that were read. */
  readonly bytes: number
}

/** A sealed segment (NDJSON) as batches that the control plane takes whole, in order. */
export async function readSegment(path: string): Promise<SegmentContent> {
  const file = await open(path, 'r')
  let content: Buffer
  try {
    content = await readUpTo(file, maxSegmentBytes)
  } finally {
    await file.close()
  }
  const batches: WorkloadEvent[][] = []
  const bad: string[] = []
  let batch: WorkloadEvent[] = []
  let batchBytes = 0
  for (const line of content.toString('utf8').split('\n')) {
    if (line.trim() === '') continue
    const event = line.length <= maxLineBytes ? parseEvent(line) : undefined
    if (event === undefined) {
      bad.push(line.slice(0, maxLineBytes))
      continue
    }
    const bytes = Buffer.byteLength(line)
    if (batch.length === maxBatchEvents || (batch.length > 0 && batchBytes + bytes > maxBatchBytes)) {
      batches.push(batch)
      batch = []
      batchBytes = 0
    }
    batch.push(event)
    batchBytes += bytes
  }
  if (batch.length > 0) batches.push(batch)
  return { batches, bad, bytes: content.length }
}

async function readUpTo(file: Awaited<ReturnType<typeof open>>, limit: number): Promise<Buffer> {
  const { size } = await file.stat()
  const buffer = Buffer.alloc(Math.min(size, limit))
  let filled = 0
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return buffer.subarray(0, filled)
}

function parseEvent(line: string): WorkloadEvent | undefined {
  try {
    const event: unknown = JSON.parse(line)
    // As it was written, in its own order: the next event of its chain holds the digest of that.
    return workloadEventSchema.safeParse(event).success ? (event as WorkloadEvent) : undefined
  } catch {
    return undefined
  }
}
