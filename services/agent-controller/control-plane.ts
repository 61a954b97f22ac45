import { randomUUID } from 'node:crypto'
import { importJWK, SignJWT } from 'jose'
import type { Clock } from '../../shared/clock.ts'
import type { HttpClient } from '../../shared/http-client.ts'
import {
  type AttestedToken,
  type AttestedTokenRequest,
  attestedTokenSchema,
  type Challenge,
  challengeSchema,
} from '../../shared/wire/attestation.ts'
import {
  type ControllerRegistration,
  type ControllerToken,
  controllerRegistrationSchema,
  controllerTokenSchema,
  type GatewayEnrolment,
  type GatewayEnrolRequest,
  gatewayEnrolmentSchema,
} from '../../shared/wire/enrolment.ts'
import type { ControllerState } from './state.ts'

const audience = 'aembit-control-plane'
const assertionLifeSecs = 60

/** The controller's side of /controller/v1. Every method throws a Fault; a refusal is an AnswerFault with its status. */
export class ControlPlane {
  readonly #http: HttpClient
  readonly #clock: Clock

  constructor(http: HttpClient, clock: Clock) {
    this.#http = http
    this.#clock = clock
  }

  register(
    state: ControllerState,
    host: { deviceCode: string; version: string; hostname: string },
  ): Promise<ControllerRegistration> {
    const body = { ...host, publicJwk: state.publicJwk }
    return this.#http.json(
      { method: 'POST', path: '/controller/v1/registrations', body },
      controllerRegistrationSchema,
    )
  }

  /** Proves possession of the registered key with a JWT client assertion (RFC 7523 §2.2, §3). */
  async token(state: ControllerState, controllerId: string): Promise<ControllerToken> {
    const body = { controllerId, assertion: await this.#assert(state, controllerId, audience) }
    return this.#http.json({ method: 'POST', path: '/controller/v1/token', body }, controllerTokenSchema)
  }

  challenge(state: ControllerState, controllerId: string): Promise<Challenge> {
    const body = { controllerId, publicJwk: state.publicJwk }
    return this.#http.json({ method: 'POST', path: '/controller/v1/challenges', body }, challengeSchema)
  }

  /** A token for what the machine shows; the control plane may have to ask a cloud, so it has longer. */
  async attestedToken(
    state: ControllerState,
    request: Pick<AttestedTokenRequest, 'controllerId' | 'challenge' | 'evidence' | 'version' | 'hostname'>,
    bound: string,
  ): Promise<AttestedToken> {
    const assertion = await this.#assert(state, request.controllerId, bound)
    const body = { ...request, publicJwk: state.publicJwk, assertion }
    return this.#http.json(
      { method: 'POST', path: '/controller/v1/attested-tokens', body, timeoutMs: 30_000 },
      attestedTokenSchema,
    )
  }

  async #assert(state: ControllerState, controllerId: string, aud: string): Promise<string> {
    const now = Math.floor(this.#clock.now() / 1000)
    return new SignJWT()
      .setProtectedHeader({ alg: 'EdDSA', typ: 'JWT' })
      .setIssuer(controllerId)
      .setSubject(controllerId)
      .setAudience(aud)
      .setJti(randomUUID())
      .setIssuedAt(now)
      .setExpirationTime(now + assertionLifeSecs)
      .sign(await importJWK(state.privateJwk, 'EdDSA'))
  }

  async reportHealth(
    accessToken: string,
    report: { version: string; hostname: string; uptimeSecs: number },
  ): Promise<void> {
    const headers = { authorization: `Bearer ${accessToken}` }
    await this.#http.send({ method: 'POST', path: '/controller/v1/health', headers, body: report })
  }

  enrolGateway(accessToken: string, request: GatewayEnrolRequest): Promise<GatewayEnrolment> {
    const headers = { authorization: `Bearer ${accessToken}` }
    return this.#http.json(
      { method: 'POST', path: '/controller/v1/gateway-enrolments', headers, body: request },
      gatewayEnrolmentSchema,
    )
  }
}
