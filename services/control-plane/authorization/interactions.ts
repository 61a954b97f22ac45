import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { errors, type Provider } from 'oidc-provider'
import type { Logger } from '../../../shared/log.ts'
import { isDocumentUrl } from '../config/clients.ts'
import type { AuditLog } from '../events/audit.ts'
import type { Refuse } from '../events/refusals.ts'
import type { Accounts } from '../identity/accounts.ts'
import type { BrowserSessions } from '../identity/browser-session.ts'
import type { BrowserBinding } from '../identity/csrf.ts'
import { refuseForm, withReference } from '../identity/routes.ts'
import type { SignIn } from '../identity/sign-in.ts'
import { SignInRefused } from '../identity/types.ts'
import { consentPage } from '../pages/consent.ts'
import { sendPage } from '../pages/layout.ts'
import { expiredPage, refusalPage } from '../pages/message.ts'
import { signInPage } from '../pages/sign-in.ts'
import { isLocalRedirect, redirectDestination } from './clients.ts'
import { type IssuancePolicy, judge, workloadOf } from './gate.ts'
import type { Grants } from './grants.ts'
import { answerWithoutSignIn } from './machine-grants.ts'
import { grantableScopes, newGrant } from './prompts.ts'
import { routes } from './provider.ts'
import { resumeInteraction } from './resume.ts'
import type { AuthorizationSettings } from './settings.ts'

export interface InteractionDeps {
  readonly current: () => { provider: Provider; settings: AuthorizationSettings }
  readonly grants: Grants
  readonly accounts: Accounts
  readonly policy: () => IssuancePolicy
  readonly signIn: SignIn
  readonly sessions: BrowserSessions
  readonly browser: BrowserBinding
  readonly refuse: Refuse
  readonly audit: Pick<AuditLog, 'add'>
  readonly log: Logger
}

type Interaction = InstanceType<Provider['Interaction']>
type Form = Record<string, unknown>
type UidRequest = FastifyRequest<{ Params: { uid: string } }>

/** The pages that an authorization request stops at: sign in, consent, or a refusal by policy. */
export function registerInteractions(app: FastifyInstance, deps: InteractionDeps): void {
  const { current, grants, accounts, policy, signIn, sessions, browser, refuse, audit, log } = deps

  /** The interaction of this browser's cookie, where it is the one of the path; else null. */
  const find = async (request: UidRequest, reply: FastifyReply): Promise<Interaction | null> => {
    try {
      const details = await current().provider.interactionDetails(request.raw, reply.raw)
      return details.uid === request.params.uid ? details : null
    } catch (error) {
      if (error instanceof errors.SessionNotFound) return null
      throw error
    }
  }
  const action = (uid: string): string => `/interaction/${encodeURIComponent(uid)}`
  const purpose = (uid: string): string => `interaction:${uid}`

  /** A posted form of an interaction: cookie, path and token must agree. Answers itself and null otherwise. */
  const posted = async (
    request: UidRequest,
    reply: FastifyReply,
  ): Promise<{ details: Interaction; form: Form } | null> => {
    const form = (request.body ?? {}) as Form
    if (!browser.check(request, form.csrf, purpose(request.params.uid))) {
      refuseForm(reply)
      return null
    }
    const details = await find(request, reply)
    if (!details) {
      refuse({
        event: 'form.refused',
        activity: 'Form refused',
        address: request.ip,
        reason: 'NoDataFound',
        detail: 'the authorization request is over or of another browser',
      })
      sendPage(reply, 400, expiredPage)
      return null
    }
    return { details, form }
  }
  const finish = async (
    request: UidRequest,
    reply: FastifyReply,
    result: Record<string, unknown>,
  ): Promise<FastifyReply> =>
    reply.redirect(await current().provider.interactionResult(request.raw, reply.raw, result), 303)

  const clientOf = async (details: Interaction) => {
    const clientId = String(details.params.client_id)
    const redirectUri = String(details.params.redirect_uri)
    const client = await current().provider.Client.find(clientId)
    return {
      clientId,
      redirectUri,
      name: client?.clientName ?? redirectDestination(redirectUri),
      verified: current().settings.clients.some((known) => known.clientId === clientId),
      scopes: grantableScopes(current().settings, String(details.params.scope ?? '').split(' ')),
    }
  }

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
        csrf: browser.token(request, reply, purpose(details.uid)),
        action: action(details.uid),
        email: email ?? (typeof hint === 'string' ? hint.slice(0, 254) : ''),
        error,
        cancellable: true,
      }),
    )
  }

  const verdictFor = async (request: UidRequest, details: Interaction) => {
    const subject = details.session?.accountId
    const identity = subject === undefined ? undefined : accounts.find(subject)
    if (!identity) return null
    const client = await clientOf(details)
    const ask = { identity, ...client, address: request.ip, browserIp: request.ip }
    return { identity, client, verdict: judge(policy(), current().settings.issuer, ask) }
  }

  const showConsent = async (
    request: UidRequest,
    reply: FastifyReply,
    details: Interaction,
  ): Promise<FastifyReply> => {
    const found = await verdictFor(request, details)
    if (!found) return sendPage(reply, 400, expiredPage)
    const { identity, client, verdict } = found
    const shared = {
      clientName: client.name,
      person: identity.email ?? identity.subject,
      destination: redirectDestination(client.redirectUri),
      action: action(details.uid),
      csrf: browser.token(request, reply, purpose(details.uid)),
    }
    if (!verdict.decision.allow) {
      const reference = refuse({
        event: 'consent.refused',
        activity: 'Authorization refused',
        eventType: 'access.authorization',
        address: request.ip,
        subject: identity.subject,
        clientId: client.clientId,
        redirectUri: client.redirectUri,
        clientWorkload: verdict.workload,
        decision: verdict.decision,
        reason: verdict.decision.reason,
        detail: verdict.reason,
      })
      const code = `${verdict.decision.reason}, ${reference}`
      return sendPage(reply, 403, refusalPage({ ...shared, reason: verdict.reason, code }))
    }
    return sendPage(
      reply,
      200,
      consentPage({
        ...shared,
        local: isLocalRedirect(client.redirectUri),
        verified: client.verified,
        publisher: isDocumentUrl(client.clientId) ? new URL(client.clientId).host : null,
        scopes: client.scopes,
        servers: verdict.servers.map(({ name, url }) => ({ name, host: new URL(url).host })),
      }),
    )
  }

  const deny = async (
    request: UidRequest,
    reply: FastifyReply,
    details: Interaction,
  ): Promise<FastifyReply> => {
    log.info(
      {
        event: 'consent.denied',
        subject: details.session?.accountId,
        clientId: details.params.client_id,
        prompt: details.prompt.name,
      },
      'authorization denied by the person or by policy',
    )
    audit.add({
      category: 'Agents',
      activity: 'Authorization denied at the page',
      actor: { type: 'User', displayName: details.session?.accountId ?? 'unknown' },
      target: `client ${String(details.params.client_id)}`,
      outcome: 'Failure',
      severity: 'Info',
      client: { ip: request.ip },
      detail: { redirectUri: String(details.params.redirect_uri), prompt: details.prompt.name },
    })
    const refused = details.prompt.reasons.includes('policy_denied')
    return finish(request, reply, {
      error: 'access_denied',
      error_description: refused
        ? 'no access policy lets this client and user in'
        : 'the person did not allow it',
    })
  }

  app.get('/interaction/:uid', async (request: UidRequest, reply) => {
    const details = await find(request, reply)
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

  app.post('/interaction/:uid/consent', async (request: UidRequest, reply) => {
    const ask = await posted(request, reply)
    if (!ask) return reply
    if (ask.form.decision !== 'allow') return deny(request, reply, ask.details)
    const { details } = ask
    const found = details.prompt.name === 'consent' ? await verdictFor(request, details) : null
    if (!found) return sendPage(reply, 400, expiredPage)
    // Decided anew: the page may be older than the policy.
    if (!found.verdict.decision.allow) return showConsent(request, reply, details)
    const { provider, settings } = current()
    const { clientId, redirectUri, scopes } = found.client
    const key = { subject: found.identity.subject, clientId, redirectUri, resource: settings.resource }
    const grant = await newGrant(provider, settings, grants, key, scopes, request.ip)
    grants.consent(key, scopes)
    log.info({ event: 'consent.given', subject: key.subject, clientId, redirectUri, scopes }, 'consent given')
    audit.add({
      category: 'Agents',
      activity: 'Consent given',
      actor: { type: 'User', displayName: key.subject },
      target: `client ${clientId}`,
      outcome: 'Success',
      severity: 'Info',
      client: { ip: request.ip },
      detail: { redirectUri, scopes },
    })
    return finish(request, reply, { consent: { grantId: grant.jti } })
  })

  for (const path of ['/interaction/:uid/deny', '/interaction/:uid/cancel']) {
    app.post(path, async (request: UidRequest, reply) => {
      const ask = await posted(request, reply)
      return ask ? deny(request, reply, ask.details) : reply
    })
  }

  app.post('/interaction/:uid/switch', async (request: UidRequest, reply) => {
    const ask = await posted(request, reply)
    if (!ask) return reply
    await sessions.signOut(request, reply)
    await ask.details.destroy()
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries(ask.details.params)) {
      for (const one of Array.isArray(value) ? value : [value]) query.append(name, String(one))
    }
    return reply.redirect(`${routes.authorization}?${query}`, 303)
  })
}
