import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pino from 'pino'
import type { Test } from 'tap'
import type { Logger } from '../../shared/log.ts'
import type { WorkloadEvent } from '../../shared/wire/event.ts'

/** A short path: a unix socket's name holds 107 bytes. */
export async function tempDir(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'mig-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

export interface CapturedLog {
  readonly log: Logger
  readonly lines: Record<string, unknown>[]
  /** Every line as one text, to look for what must not be there. */
  text(): string
}

export function captureLog(): CapturedLog {
  const lines: Record<string, unknown>[] = []
  const write = (line: string): void => {
    lines.push(JSON.parse(line))
  }
  return { log: pino({ level: 'trace' }, { write }), lines, text: () => JSON.stringify(lines) }
}

/** Resolves as soon as `check` gives something truthy; fails after `ms`. */
export async function until<T>(
  check: () => T | Promise<T>,
  what = 'it',
  ms = 20_000,
): Promise<NonNullable<T>> {
  const end = Date.now() + ms
  for (;;) {
    const value = await check()
    if (value) return value as NonNullable<T>
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain for ${what}`)
    await sleep(5)
  }
}

let made = 0
/** An event of its own id. */
export const sampleEvent = (): WorkloadEvent => ({
  version: '1.0.0',
  meta: {
    timestamp: new Date().toISOString(),
    eventType: 'mcp.request',
    connectionId: randomUUID(),
    eventId: randomUUID(),
    action: 'forward',
    severity: 'Info',
    policyId: null,
  },
  workload: { client: null, server: null },
  outcome: { result: 'Modified' },
  application: {
    mcp: { httpVersion: 'HTTP/1.1', headers: [], mcpMethod: 'tools/call', mcpSessionId: `${made++}` },
  },
})
