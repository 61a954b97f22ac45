import { z } from 'zod'

const jwks = z.object({ keys: z.array(z.record(z.string(), z.unknown())).min(1) })

/** POST /v1/gateways/enrol at the agent controller; again with `gatewayId` to renew. */
export const gatewayEnrolRequestSchema = z.object({
  gatewayUrl: z.string(),
  hostname: z.string(),
  version: z.string(),
  gatewayId: z.uuid().optional(),
})

/** The controller's and the control plane's answer: what sync needs to speak to the control plane. */
export const gatewayEnrolmentSchema = z.object({
  gatewayId: z.uuid(),
  tenantId: z.string(),
  /** Bearer for /gateway/v1/*; opaque to the gateway. */
  accessToken: z.string(),
  expiresAt: z.iso.datetime(),
  /** Pinned: a snapshot must verify under one of these. */
  snapshotJwks: jwks,
  /** The control plane's clock, for skew. */
  time: z.iso.datetime(),
})

/** POST /controller/v1/registrations. The code is spent by the first answer, whatever it is. */
export const controllerRegistrationRequestSchema = z.object({
  deviceCode: z.string().regex(/^\d{6}$/),
  /** Ed25519 public key; later token requests are signed with its private half. */
  publicJwk: z.record(z.string(), z.unknown()),
  version: z.string(),
  hostname: z.string(),
})
export const controllerRegistrationSchema = z.object({ controllerId: z.uuid(), tenantId: z.string() })

/** POST /controller/v1/token: RFC 7523 §2.2 client assertion, aud = 'aembit-control-plane', ≤ 60 s, jti once. */
export const controllerTokenRequestSchema = z.object({ controllerId: z.uuid(), assertion: z.string() })
export const controllerTokenSchema = z.object({ accessToken: z.string(), expiresAt: z.iso.datetime() })

export const controllerHealthReportSchema = z.object({
  version: z.string(),
  hostname: z.string(),
  uptimeSecs: z.number(),
})

/** RFC 9457, with our fault code: the error body of every machine-to-machine endpoint of ours. */
export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  code: z.string(),
  detail: z.string().optional(),
})

export type GatewayEnrolRequest = z.infer<typeof gatewayEnrolRequestSchema>
export type GatewayEnrolment = z.infer<typeof gatewayEnrolmentSchema>
export type ControllerRegistrationRequest = z.infer<typeof controllerRegistrationRequestSchema>
export type ControllerRegistration = z.infer<typeof controllerRegistrationSchema>
export type ControllerToken = z.infer<typeof controllerTokenSchema>
export type Problem = z.infer<typeof problemSchema>
