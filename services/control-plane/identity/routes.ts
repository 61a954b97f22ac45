import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { AuditLog } from '../events/audit.ts'
import type { Refuse } from '../events/refusals.ts'
import { html } from '../pages/html.ts'
import { sendPage } from '../pages/layout.ts'
import { messagePage } from '../pages/message.ts'
import { signInPage } from '../pages/sign-in.ts'
import type { BrowserSessions } from './browser-session.ts'
import type { BrowserBinding } from './csrf.ts'
import type { Logout } from './logout.ts'
import { maxResponseChars } from './saml/response.ts'
import type { SignIn } from './sign-in.ts'
import { SignInRefused } from './types.ts'

export interface IdentityRoutesDeps {
  readonly signIn: SignIn
  readonly sessions: BrowserSessions
  readonly browser: BrowserBinding
  readonly issuer: string
  /** A person signed out of a browser; whether that ended what agents use in their name. */
  readonly signedOut: (subject: string) => boolean
  readonly logout: Logout
  /** Where a person of this provider signs out there as well; undefined where there is no such place. */
  readonly endSession: (idp: string, returnTo: string, hint: string | undefined) => Promise<URL | undefined>
  readonly refuse: Refuse
  readonly audit: Pick<AuditLog, 'add'>
  /** Our metadata document for a SAML provider; undefined where there is no such provider. */
  readonly samlMetadata: (idp: string) => Promise<string> | undefined
  /** Finishes the authorization request that a sign-in was for; answers where the browser goes next, null if gone. */
  readonly resume: (request: FastifyRequest, uid: string, subject: string) => Promise<string | null>
}

type Form = Record<string, unknown>
const purpose = 'sign-in'

/** Signing in for a page of ours, signing out, and the way back from an external identity provider. */
export function registerIdentity(app: FastifyInstance, deps: IdentityRoutesDeps): void {
  const { signIn, sessions, browser, issuer } = deps

  const show = (
    request: FastifyRequest,
    reply: FastifyReply,
    returnTo: string,
    {
      status = 200,
      email = '',
      error = null,
    }: { status?: number; email?: string; error?: string | null } = {},
  ): FastifyReply =>
    sendPage(
      reply,
      status,
      signInPage({
        ...signIn.options(),
        clientName: null,
        csrf: browser.token(request, reply, purpose),
        action: '/sign-in',
        query: `?return_to=${encodeURIComponent(returnTo)}`,
        email,
        error,
        cancellable: false,
      }),
    )
  const returnTo = (request: FastifyRequest): string =>
    localPath((request.query as Record<string, unknown>).return_to, issuer)

  const logoutRefused = (request: FastifyRequest<{ Params: { id: string } }>, error: SignInRefused): string =>
    deps.refuse({
      event: 'logout.refused',
      activity: 'Logout by an identity provider refused',
      address: request.ip,
      reason: error.reason,
      detail: `${request.params.id.slice(0, 64)}: ${error.detail}`,
    })

  app.get('/sign-in', async (request, reply) => {
    if (await sessions.current(request)) return reply.redirect(returnTo(request), 303)
    return show(request, reply, returnTo(request))
  })

  app.post('/sign-in/password', async (request, reply) => {
    const form = (request.body ?? {}) as Form
    if (!browser.check(request, form.csrf, purpose)) return refuseForm(reply)
    const email = String(form.email ?? '')
    const answer = await signIn.password(request, String(form.idp ?? ''), email, String(form.password ?? ''))
    if (!answer.ok) {
      if (answer.retryAfterSecs !== undefined) reply.header('retry-after', answer.retryAfterSecs)
      return show(request, reply, returnTo(request), { status: answer.status, email, error: answer.text })
    }
    await sessions.signIn(request, reply, answer.identity.subject)
    return reply.redirect(returnTo(request), 303)
  })

  app.post('/sign-in/idp', async (request, reply) => {
    const form = (request.body ?? {}) as Form
    if (!browser.check(request, form.csrf, purpose)) return refuseForm(reply)
    try {
      const target = { kind: 'page', returnTo: returnTo(request) } as const
      const url = await signIn.begin(request, form, target)
      return reply.redirect(url.href, 303)
    } catch (error) {
      if (!(error instanceof SignInRefused)) throw error
      return show(request, reply, returnTo(request), { status: 503, error: withReference(error) })
    }
  })

  app.get<{ Params: { id: string } }>('/idp/:id/callback', async (request, reply) => {
    try {
      const { identity, target } = await signIn.finish(request, request.params.id)
      if (target.kind === 'interaction') {
        const next = await deps.resume(request, target.uid, identity.subject)
        if (next === null) throw signIn.tooLate(request, identity.idp, identity.subject)
        return reply.redirect(next, 303)
      }
      await sessions.signIn(request, reply, identity.subject)
      return reply.redirect(target.returnTo, 303)
    } catch (error) {
      if (!(error instanceof SignInRefused)) throw error
      return sendPage(
        reply,
        400,
        messagePage({
          title: 'You are not signed in',
          text: error.message,
          advice:
            error.reference === undefined
              ? 'Nothing was shared. Go back to your agent and start again.'
              : 'Nothing was shared. Go back to your agent and start again. If it stays like this, tell your administrator the reference below: it is in the log with the reason.',
          ...(error.reference === undefined ? {} : { reference: error.reference }),
        }),
      )
    }
  })

  // A SAML response is posted by a page of the provider, and a post from another site brings no cookie of ours along.
  // It is kept for the sign-in that its RelayState names; the redirect makes a request of the browser with its cookie.
  app.post<{ Params: { id: string } }>(
    '/idp/:id/acs',
    { bodyLimit: maxResponseChars * 2 },
    async (request, reply) => {
      const { SAMLResponse: answer, RelayState: state } = (request.body ?? {}) as Form
      const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
      const url = signIn.posted(request, request.params.id, text(state)?.slice(0, 200), text(answer))
      if (url) return reply.redirect(url.href, 303)
      return sendPage(
        reply,
        400,
        messagePage({
          title: 'You are not signed in',
          text: 'This sign-in was not started here, was finished already, or was left open for too long.',
          advice:
            'Sign-in begins at your agent, not at the portal of your identity provider. Start again from your agent.',
        }),
      )
    },
  )
  app.get<{ Params: { id: string } }>('/idp/:id/metadata', async (request, reply) => {
    const document = await deps.samlMetadata(request.params.id)
    if (document === undefined) return reply.callNotFound()
    return reply
      .headers({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
      .type('application/samlmetadata+xml')
      .send(document)
  })

  app.get('/sign-out', async (request, reply) =>
    sendPage(
      reply,
      200,
      messagePage({
        title: 'Sign out?',
        text: 'This browser will be signed out. Agents that you allowed stay connected.',
        form: html`<form method="post" action="/sign-out"><input type="hidden" name="csrf" value="${browser.token(request, reply, 'sign-out')}"><button class="button primary" type="submit">Sign out</button></form>`,
      }),
    ),
  )
  app.post('/sign-out', async (request, reply) => {
    if (!browser.check(request, ((request.body ?? {}) as Form).csrf, 'sign-out')) return refuseForm(reply)
    const user = await sessions.current(request)
    await sessions.signOut(request, reply)
    const ended = user !== null && deps.signedOut(user.subject)
    const place = user && (await deps.endSession(user.idp, `${issuer}/signed-out`, user.email))
    if (user) {
      deps.audit.add({
        category: 'Authentication',
        activity: 'Signed out',
        actor: { type: 'User', displayName: user.subject },
        target: 'browser session',
        outcome: 'Success',
        severity: 'Info',
        client: { ip: request.ip },
      })
    }
    return sendPage(
      reply,
      200,
      messagePage({
        ...signedOutText(ended),
        ...(place
          ? {
              form: html`<p class="hint">You are still signed in at ${place.host}. <a href="${place.href}" rel="noreferrer">Sign out there too</a></p>`,
            }
          : {}),
      }),
    )
  })
  app.get('/signed-out', (_request, reply) => sendPage(reply, 200, messagePage(signedOutText(false))))

  // Without a browser and its cookies: what proves it is the token (OpenID Connect Back-Channel Logout 1.0 §2.5).
  app.post<{ Params: { id: string } }>(
    '/idp/:id/backchannel-logout',
    { bodyLimit: 64 * 1024 },
    async (request, reply) => {
      const { logout_token: token } = (request.body ?? {}) as Form
      reply.header('cache-control', 'no-store')
      try {
        if (typeof token !== 'string') {
          throw new SignInRefused('logout_token is missing.', 'no logout_token', { reason: 'NoDataFound' })
        }
        await deps.logout.backChannel(request.params.id, token, request.ip)
        return reply.code(200).send()
      } catch (error) {
        if (!(error instanceof SignInRefused)) throw error
        logoutRefused(request, error)
        return reply.code(400).send({ error: 'invalid_request', error_description: error.message })
      }
    },
  )
  // A SAML provider sends the browser here while it signs a person out everywhere, and wants it back with an answer.
  app.get<{ Params: { id: string } }>('/idp/:id/slo', async (request, reply) => {
    const [, query = ''] = request.url.split(/\?(.*)/s)
    try {
      const answer = await deps.logout.saml(request.params.id, query, request.ip)
      await sessions.signOut(request, reply)
      if (answer) return reply.redirect(answer.href, 303)
      return sendPage(reply, 200, messagePage(signedOutText(false)))
    } catch (error) {
      if (!(error instanceof SignInRefused)) throw error
      const reference = logoutRefused(request, error)
      const text = 'Your identity provider asked to sign you out, and what it sent could not be verified.'
      const form = html`<p class="hint"><a href="/sign-out">Sign out of this browser</a></p>`
      return sendPage(reply, 400, messagePage({ title: 'You were not signed out', text, form, reference }))
    }
  })
}

function signedOutText(ended: boolean): { title: string; text: string } {
  const text = 'This browser is signed out. Agents that you allowed stay connected'
  return {
    title: 'Signed out',
    text: ended ? `${text}; servers that your sign-in opens ask you to sign in again.` : `${text}.`,
  }
}

/** For a page with a form, where there is no place for a reference of its own. */
export function withReference({ message, reference }: SignInRefused): string {
  return reference === undefined ? message : `${message} Reference: ${reference}`
}

/** A form that did not come from a page of ours. */
export function refuseForm(reply: FastifyReply): FastifyReply {
  return sendPage(
    reply,
    403,
    messagePage({
      title: 'This form is no longer valid',
      text: 'It was opened in another browser, its cookies were cleared, or it did not come from this site.',
      advice: 'Go back to your agent and start again.',
    }),
  )
}

/** A path of this origin and nothing else; `/` for whatever would lead away. */
export function localPath(value: unknown, issuer: string): string {
  const local = /^\/(?![/\\])/
  if (typeof value !== 'string' || !local.test(value) || value.length > 2048) return '/'
  const url = URL.parse(value, issuer)
  // Dots that the parser resolves may leave two slashes at the front, which a browser reads as another host.
  return url?.origin === new URL(issuer).origin && local.test(url.pathname)
    ? `${url.pathname}${url.search}`
    : '/'
}
