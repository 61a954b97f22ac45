import type { GatewayConfig } from '../../../shared/config/gateway.ts'
import type { GatewayStatus } from '../status.ts'

export type Verdict = 'ok' | 'warning' | 'failed' | 'skipped'

export interface Finding {
  readonly step: string
  readonly verdict: Verdict
  /** What was seen. */
  readonly text: string
  /** What to do about it; with `warning` and `failed`. */
  readonly advice?: string
}

/** Credentials for the last steps; without any they are skipped. */
export type Token =
  | { readonly kind: 'bearer'; readonly token: string }
  | { readonly kind: 'client'; readonly id: string; readonly secret: string }

/** What the doctor looks with, and what steps tell those after them. */
export interface Patient {
  readonly config: GatewayConfig
  readonly url: URL
  /** Authorities besides the usual ones, PEM. */
  readonly ca: readonly string[]
  readonly token: Token | null
  readonly now: () => number
  /** Every address of the name. Rejects as node:dns does. */
  readonly lookup: (name: string) => Promise<readonly string[]>
  /** Of the operator socket; rejects where no gateway answers. */
  readonly status: () => Promise<GatewayStatus>
  /** The gateway's own words, where it answered, and why it did not. */
  running?: GatewayStatus
  silence?: string
  trusted?: boolean
  /** `Date` of an answer, and when it came. */
  serverTime?: { readonly of: string; readonly theirs: number; readonly ours: number }
  issuer?: string
  jwksUri?: string
  tokenEndpoint?: string
  bearer?: string
  session?: { readonly id: string | undefined; readonly version: string }
}

export interface Step {
  readonly name: string
  /** Steps that have to hold before this one says anything. */
  readonly needs: readonly string[]
  run(patient: Patient): Promise<Omit<Finding, 'step'>>
}

export const ok = (text: string): Omit<Finding, 'step'> => ({ verdict: 'ok', text })
export const skipped = (text: string): Omit<Finding, 'step'> => ({ verdict: 'skipped', text })
export const warning = (text: string, advice: string): Omit<Finding, 'step'> => ({
  verdict: 'warning',
  text,
  advice,
})
export const failed = (text: string, advice: string): Omit<Finding, 'step'> => ({
  verdict: 'failed',
  text,
  advice,
})
