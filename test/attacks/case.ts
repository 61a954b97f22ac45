import type { AttackRig } from './rig.ts'

/** One way to get in or across, and what is expected to stop it. `run` throws where the attack got anywhere. */
export interface Attack {
  readonly attack: string
  /** What stops it, in words for an auditor. */
  readonly refusal: string
  run(rig: AttackRig): Promise<void>
}

export interface Area {
  readonly title: string
  readonly attacks: readonly Attack[]
}

export const attack = (name: string, refusal: string, run: Attack['run']): Attack => ({
  attack: name,
  refusal,
  run,
})
