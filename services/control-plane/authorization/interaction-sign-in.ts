import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Provider } from 'oidc-provider'
import type { BrowserSessions } from '../identity/browser-session.ts'
import { withReference } from '../identity/routes.ts'
import type { SignIn } from '../identity/sign-in.ts'
import { SignInRefused } from '../identity/types.ts'
import { sendPage } from '../pages/layout.ts'
import { expiredPage } from '../pages/message.ts'
import { signInPage } from '../pages/sign-in.ts'
import { type IssuancePolicy, workloadOf } from './gate.ts'
import type { Interaction, Interactions, ShowPage, UidRequest } from './interaction.ts'
import { resumeInteraction } from './resume.ts'

export interface SignInStepDeps {
  readonly current: () => { provider: Provider }
  readonly policy: () => IssuancePolicy
  readonly signIn: SignIn
  readonly sessions: BrowserSessions
}

/** The sign-in that an authorization request stops at, by password or at an identity provider. Gives what shows it. */
export function registerSignInStep(
  app: FastifyInstance,
  { current, policy, signIn, sessions }: SignInStepDeps,
  { posted, form, clientOf }: Interactions,
): ShowPage {
  /** The identity providers that this client's people come from: its workload may name some. */
  const allowedFor = async (request: UidRequest, details: Interaction) =>
    workloadOf(policy(), { ...(await clientOf(details)), address: request.ip })?.ssoIdentityProviders

  const showSignIn = async (
    request: UidRequest,
    reply: FastifyReply,
    details: Interaction,
    { status = 200, email, error = null }: { status?: number; email?: string; error?: string | null } = {},
  ): Promise<FastifyReply> => {
    const hint = details.params.login_hint
    return sendPage(
      reply,
      status,
      signInPage({
        ...signIn.options(await allowedFor(request, details)),
        clientName: (await clientOf(details)).name,
        ...form(request, reply, details),
        email: email ?? (typeof hint === 'string' ? hint.slice(0, 254) : ''),
        error,
        cancellable: true,
      }),
    )
  }

  app.post('/interaction/:uid/password', async (request: UidRequest, reply) => {
    const ask = await posted(request, reply)
    if (!ask) return reply
    const email = String(ask.form.email ?? '')
    const answer = await signIn.password(
      request,
      String(ask.form.idp ?? ''),
      email,
      String(ask.form.password ?? ''),
      await allowedFor(request, ask.details),
    )
    if (!answer.ok) {
      if (answer.retryAfterSecs !== undefined) reply.header('retry-after', answer.retryAfterSecs)
      return showSignIn(request, reply, ask.details, { status: answer.status, email, error: answer.text })
    }
    const next = await resumeInteraction(
      current().provider,
      sessions,
      request,
      request.params.uid,
      answer.identity.subject,
    )
    return next === null ? sendPage(reply, 400, expiredPage) : reply.redirect(next, 303)
  })

  app.post('/interaction/:uid/idp', async (request: UidRequest, reply) => {
    const ask = await posted(request, reply)
    if (!ask) return reply
    try {
      const hint = ask.details.params.login_hint
      const url = await signIn.begin(
        request,
        ask.form,
        { kind: 'interaction', uid: request.params.uid },
        {
          allowed: await allowedFor(request, ask.details),
          loginHint: typeof hint === 'string' ? hint : undefined,
        },
      )
      return reply.redirect(url.href, 303)
    } catch (error) {
      if (!(error instanceof SignInRefused)) throw error
      return showSignIn(request, reply, ask.details, { status: 503, error: withReference(error) })
    }
  })

  return showSignIn
}
