import type { ServerResponse } from 'node:http'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import { sseEvent } from '../../../shared/sse.ts'
import type { CredentialChanges } from './credential-changes.ts'
import type { SnapshotSource } from './snapshots.ts'

export interface StreamDeps {
  readonly snapshots: SnapshotSource
  readonly changes: CredentialChanges
  readonly clock: Clock
  /** 10 s unless told. */
  readonly heartbeatMs?: number
}

export interface Streams {
  /**
   * Answers with the event stream until the gateway leaves or its token ends. Throws `http.busy` where there are
   * too many, before anything is sent. `holds`: whether the token was not taken back.
   */
  open(gatewayId: string, expiresAt: number, response: ServerResponse, holds: () => boolean): void
  close(): void
}

const maxStreams = 2_000
/** A gateway opens the new stream before it lets the old one go; more than these few are a fault of its. */
const maxPerGateway = 4
/** What may wait in a socket whose reader does not read: past it the stream is cut and the gateway comes again. */
const maxUnreadBytes = 256 << 10

interface Stream {
  readonly gatewayId: string
  readonly expiresAt: number
  readonly response: ServerResponse
  readonly holds: () => boolean
}

/** Server-sent events to gateways: `snapshot` at connect and at each change, `credential`, `heartbeat`. */
export function createStreams({ snapshots, changes, clock, heartbeatMs = 10_000 }: StreamDeps): Streams {
  const streams = new Set<Stream>()

  const end = (stream: Stream, destroy = false): void => {
    streams.delete(stream)
    if (destroy) stream.response.destroy()
    else stream.response.end()
  }
  const send = (stream: Stream, event: string, data: unknown): void => {
    stream.response.write(sseEvent(event, data))
    if (stream.response.writableLength > maxUnreadBytes) end(stream, true)
  }
  const sendAll = (event: string, data: unknown): void => {
    for (const stream of streams) {
      if (held(stream)) send(stream, event, data)
      else end(stream)
    }
  }
  /** What can not be looked up for the moment ends with its time. */
  const held = ({ holds }: Stream): boolean => {
    try {
      return holds()
    } catch {
      return true
    }
  }
  const announced = () => {
    const { snapshot, etag } = snapshots.current()
    return { version: snapshot.version, etag: `"${etag}"` }
  }
  const stops = [
    snapshots.onChange(() => sendAll('snapshot', announced())),
    changes.subscribe((change) => sendAll('credential', change)),
  ]
  const timer = setInterval(() => {
    const now = clock.now()
    for (const stream of streams) if (stream.expiresAt <= now) end(stream)
    if (streams.size > 0) {
      sendAll('heartbeat', { version: announced().version, time: new Date(now).toISOString() })
    }
  }, heartbeatMs)
  timer.unref()

  return {
    open: (gatewayId, expiresAt, response, holds) => {
      const own = [...streams].filter((stream) => stream.gatewayId === gatewayId)
      if (streams.size >= maxStreams) throw new Fault('http.busy')
      const first = announced()
      if (own.length >= maxPerGateway) end(own[0]!)
      response.writeHead(200, {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      })
      const stream: Stream = { gatewayId, expiresAt, response, holds }
      streams.add(stream)
      response.on('close', () => streams.delete(stream))
      response.on('error', () => streams.delete(stream))
      send(stream, 'snapshot', first)
    },
    close: () => {
      clearInterval(timer)
      for (const stop of stops) stop()
      for (const stream of streams) end(stream)
    },
  }
}
