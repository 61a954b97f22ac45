import type { FaultJson } from '../../shared/faults.ts'
import type { AnySlot } from './fleet.ts'

/** Why the gateway is not ready; empty: it is. */
export function reasonsAgainst(slots: readonly AnySlot[]): string[] {
  return slots.flatMap((slot) => {
    if (slot.ready) return []
    if (slot.crashLooping) return [`${slot.name}: crash loop (${slot.lastError?.text ?? 'unknown'})`]
    const bad = [...(slot.current?.checks ?? [])].filter(([, { status }]) => status !== 'running')
    if (bad.length === 0) return [`${slot.name}: ${slot.current?.state ?? 'restarting'}`]
    return bad.map(
      ([name, { status, fault }]) => `${name}: ${status}${fault ? ` (${fault.detail ?? fault.text})` : ''}`,
    )
  })
}

/**
 * What holds up the end of the start. Not a certificate that has ended: it is served, its successor is waited for, and
 * who starts us again every minute brings none.
 */
export const reasonsAgainstStart = (slots: readonly AnySlot[]): string[] =>
  reasonsAgainst(slots).filter((reason) => !reason.startsWith('front.certificate: failing'))

/** What runs but wants attention, e.g. a certificate whose renewal fails. */
export function warningsOf(slots: readonly AnySlot[]): string[] {
  return slots.flatMap((slot) =>
    [...(slot.current?.checks ?? [])].flatMap(([name, { status, fault }]) =>
      status === 'running' && fault ? [`${name}: ${fault.detail ?? fault.text}`] : [],
    ),
  )
}

/** A configuration that a process could never start with, before it ever ran. */
export function startFaultOf(slots: readonly AnySlot[]): { slot: string; fault: FaultJson } | undefined {
  for (const { name, startFault: fault } of slots) {
    if (fault?.code === 'config.invalid' || fault?.code === 'listen.failed') return { slot: name, fault }
  }
  return undefined
}
