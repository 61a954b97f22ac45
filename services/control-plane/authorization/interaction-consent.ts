import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Provider } from 'oidc-provider'
import type { Logger } from '../../../shared/log.ts'
import { isDocumentUrl } from '../config/clients.ts'
import type { AuditLog } from '../events/audit.ts'
import type { Refuse } from '../events/refusals.ts'
import type { Accounts } from '../identity/accounts.ts'
import type { BrowserSessions } from '../identity/browser-session.ts'
import { consentPage } from '../pages/consent.ts'
import { sendPage } from '../pages/layout.ts'
import { expiredPage, refusalPage } from '../pages/message.ts'
import { isLocalRedirect, redirectDestination } from './clients.ts'
import { type IssuancePolicy, judge } from './gate.ts'
import type { Grants } from './grants.ts'
import type { Interaction, Interactions, ShowPage, UidRequest } from './interaction.ts'
import { newGrant } from './prompts.ts'
import { routes } from './provider.ts'
import type { AuthorizationSettings } from './settings.ts'

export interface ConsentStepDeps {
  readonly current: () => { provider: Provider; settings: AuthorizationSettings }
  readonly grants: Grants
  readonly accounts: Accounts
  readonly policy: () => IssuancePolicy
  readonly sessions: BrowserSessions
  readonly refuse: Refuse
  readonly audit: Pick<AuditLog, 'add'>
  readonly log: Logger
}

/**
 * The consent that an authorization request stops at, or policy's refusal in its place; a person may also give the request
 * up, or go on as somebody else. Gives what shows the page.
 */
export function registerConsentStep(
  app: FastifyInstance,
  { current, grants, accounts, policy, sessions, refuse, audit, log }: ConsentStepDeps,
  { posted, finish, form, clientOf }: Interactions,
): ShowPage {
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
      ...form(request, reply, details),
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
    const subject = details.session?.accountId
    const clientId = String(details.params.client_id)
    const redirectUri = String(details.params.redirect_uri)
    const prompt = details.prompt.name
    if (subject === undefined) {
      // Anybody can open a request and give it up.
      refuse({
        event: 'consent.denied',
        activity: 'Authorization denied at the page',
        category: 'Agents',
        address: request.ip,
        clientId,
        redirectUri,
        reason: 'access_denied',
        detail: `prompt ${prompt}`,
      })
    } else {
      log.info(
        { event: 'consent.denied', subject, clientId, prompt },
        'authorization denied by the person or by policy',
      )
      audit.add({
        category: 'Agents',
        activity: 'Authorization denied at the page',
        actor: { type: 'User', displayName: subject },
        target: `client ${clientId}`,
        outcome: 'Failure',
        severity: 'Info',
        client: { ip: request.ip },
        detail: { redirectUri, prompt },
      })
    }
    const refused = details.prompt.reasons.includes('policy_denied')
    return finish(request, reply, {
      error: 'access_denied',
      error_description: refused
        ? 'no access policy lets this client and user in'
        : 'the person did not allow it',
    })
  }

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
  return showConsent
}
