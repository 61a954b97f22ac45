import type { FastifyInstance } from 'fastify'
import { sendPage } from '../pages/layout.ts'
import { expiredPage } from '../pages/message.ts'
import { createInteractions, type InteractionsDeps, type UidRequest } from './interaction.ts'
import { type ConsentStepDeps, registerConsentStep } from './interaction-consent.ts'
import { registerSignInStep, type SignInStepDeps } from './interaction-sign-in.ts'
import { answerWithoutSignIn } from './machine-grants.ts'

export type InteractionDeps = InteractionsDeps & SignInStepDeps & ConsentStepDeps

/** The pages that an authorization request stops at: sign in, consent, or a refusal by policy. */
export function registerInteractions(app: FastifyInstance, deps: InteractionDeps): void {
  const { current, grants, policy, refuse, log } = deps
  const interactions = createInteractions(deps)
  const showSignIn = registerSignInStep(app, deps, interactions)
  const showConsent = registerConsentStep(app, deps, interactions)

  app.get('/interaction/:uid', async (request: UidRequest, reply) => {
    const details = await interactions.find(request, reply)
    if (!details) return sendPage(reply, 400, expiredPage)
    const { provider, settings } = current()
    const direct = await answerWithoutSignIn(
      provider,
      { settings, grants, policy, refuse, log },
      details,
      request.ip,
    )
    if (direct !== null) return reply.redirect(direct, 303)
    return details.prompt.name === 'login'
      ? showSignIn(request, reply, details)
      : showConsent(request, reply, details)
  })
}
