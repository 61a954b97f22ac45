import { z } from 'zod'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { backoffMs } from '../../shared/retry.ts'
import type { SseEvent } from '../../shared/sse.ts'
import type { ControlPlane } from './control-plane.ts'
import type { CredentialKey } from './credentials.ts'
import type { Snapshots } from './snapshots.ts'

export interface StreamDeps {
  readonly plane: ControlPlane
  readonly snapshots: Snapshots
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  readonly onCredential: (key: CredentialKey) => void
  /** The stream is there again: invalidations may have been missed. */
  readonly onGap: () => void
  /** Null: connected. */
  readonly onState: (fault: Fault | null) => void
}

const backoff = { baseMs: 500, capMs: 10_000, floorMs: 200 }
/** A stream that lasted so long worked; its end is no failure. */
const workedAfterMs = 5_000

const snapshotEvent = z.object({ version: z.number().int(), etag: z.string() })
const heartbeatEvent = z.object({ version: z.number().int(), time: z.iso.datetime() })
const credentialEvent = z.object({ issuer: z.string(), subject: z.string(), serverId: z.string() })

/**
 * Follows the control plane: fetch, then listen until the stream breaks, then again. Where the stream can not be had,
 * each round's fetch is the poll that stands in for it. Until `signal` aborts; never throws.
 */
export async function follow(deps: StreamDeps, signal: AbortSignal): Promise<void> {
  const { plane, snapshots, clock, random, log, onState } = deps
  for (let failures = 0; !signal.aborted; ) {
    const began = clock.now()
    let fault: Fault | null = null
    try {
      await snapshots.refresh(plane, signal)
      const opened = (): void => {
        deps.onGap()
        onState(null)
      }
      for await (const event of plane.stream(signal, opened)) await handle(deps, event, signal)
      // Polite: it ends a stream with the token that opened it.
    } catch (error) {
      fault = Fault.from(error)
    }
    if (signal.aborted) return
    if (clock.now() - began > workedAfterMs) failures = 0
    else fault ??= new Fault('control_plane.unreachable', { detail: 'it ends every stream at once' })
    if (fault) {
      onState(fault)
      const { code, detail } = fault
      if (failures === 0) log.warn({ code, detail }, 'not connected to the control plane')
    }
    await clock.sleep(backoffMs(failures++, { ...backoff, random }), signal).catch(() => {})
  }
}

async function handle(deps: StreamDeps, { event, data }: SseEvent, signal: AbortSignal): Promise<void> {
  const { plane, snapshots } = deps
  if (event === 'snapshot') {
    const { etag } = read(snapshotEvent, event, data)
    if (!snapshots.holds(etag)) await snapshots.refresh(plane, signal)
  } else if (event === 'heartbeat') {
    const { version, time } = read(heartbeatEvent, event, data)
    if (!(await snapshots.heartbeat(version, time))) await snapshots.refresh(plane, signal)
  } else if (event === 'credential') {
    deps.onCredential(read(credentialEvent, event, data))
  }
  // Other events are of a newer control plane, which may say more than we know.
}

function read<T>(schema: z.ZodType<T>, event: string, data: string): T {
  try {
    return schema.parse(JSON.parse(data))
  } catch (error) {
    throw new Fault('control_plane.rejected', { detail: `a "${event}" event of another shape`, cause: error })
  }
}
