import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import type { AuditLog } from '../events/audit.ts'
import type { SnapshotSource } from '../fleet/snapshots.ts'
import type { BrowserSessions } from '../identity/browser-session.ts'
import type { BrowserBinding } from '../identity/csrf.ts'
import { sendPage } from '../pages/layout.ts'
import { messagePage } from '../pages/message.ts'
import { confirmPage, failedPage, linkExpiredPage } from './connect-pages.ts'
import { Misdirected } from './connections.ts'
import type { EnterpriseDiscovery, EnterpriseTokens } from './enterprise-tokens.ts'
import { Refused } from './issued.ts'
import { GrantEnded } from './oauth.ts'
import { type SharedAccounts, type SharedConfig, sharedKey } from './shared-account.ts'
import { registerSharedPage } from './shared-page.ts'
import type { Tickets } from './tickets.ts'

export interface SharedRoutesDeps {
  readonly shared: SharedAccounts
  readonly enterprise: Pick<EnterpriseTokens, 'discover'>
  readonly snapshots: SnapshotSource
  readonly browser: BrowserBinding
  readonly sessions: Pick<BrowserSessions, 'current'>
  readonly tickets: Tickets
  readonly audit: Pick<AuditLog, 'add'>
  readonly origin: () => string
  readonly log: Logger
}

/** What the administration API offers of such providers. */
export interface SharedAdministration {
  /** A link, good once and for ten minutes, to the page with all of them. */
  pageLink(): string
  /** A link, good once and for ten minutes, that authorizes the account; undefined for no such provider. */
  authorize(providerId: string): { userAuthorizationUrl: string } | undefined
  verification(
    providerId: string,
  ): { state: string; account: string | null; expires: string | null } | undefined
  /** What is found at the server of an enterprise-managed provider, registered there; or the problem, in words. */
  discover(providerId: string): Promise<EnterpriseDiscovery | { problem: string } | undefined>
  revoke(providerId: string): Promise<'revoked' | 'forgotten' | undefined>
}

type Route = { Params: { id: string }; Querystring: Record<string, unknown> }

/** The pages on which an administrator authorizes a shared account: the link is the right to do so, sign-in is not. */
export function registerSharedAccounts(app: FastifyInstance, deps: SharedRoutesDeps): SharedAdministration {
  const { shared, enterprise, snapshots, browser, sessions, tickets, audit, origin, log } = deps
  const configOf = (id: string): SharedConfig | undefined => {
    const found = snapshots.current().config.credentialProviders.find((each) => each.id === id)
    return found?.type === 'oauth-authorization-code' ? found : undefined
  }
  const path = (id: string): string => `/credential-providers/${encodeURIComponent(id)}/authorize`
  const purpose = (id: string): string => `authorize-provider:${id}`
  const note = (activity: string, id: string, request?: FastifyRequest): void =>
    audit.add({
      category: 'CredentialProvider',
      activity,
      actor: { type: 'Administrator', displayName: 'administrator' },
      target: id,
      outcome: 'Success',
      severity: 'Info',
      ...(request ? { client: { ip: request.ip } } : {}),
    })
  const fail = (request: FastifyRequest, reply: FastifyReply, error: unknown, name: string) => {
    if (error instanceof Misdirected) return sendPage(reply, 400, linkExpiredPage())
    if (error instanceof GrantEnded) return sendPage(reply, 200, failedPage(name, error.code, true))
    const { code, detail } = Fault.from(error)
    log.warn({ provider: name, code, detail, requestId: request.id }, 'authorizing a shared account failed')
    return sendPage(reply, 502, failedPage(name, `${code} ${request.id}`))
  }

  app.get<Route>('/credential-providers/:id/authorize', async (request, reply) => {
    const config = configOf(request.params.id)
    const ticket = tickets.read(request.query.ticket)
    if (!config || ticket?.providerId !== config.id || ticket.subject !== '') {
      return sendPage(reply, 410, linkExpiredPage())
    }
    try {
      const { server } = await shared.locate(config)
      const host = new URL(server.authorization_endpoint).host
      const view = {
        serverName: config.name,
        serverHost: 'every server whose policy names this credential provider',
        authorizationHost: host,
        person: 'everyone whom policy lets through, with one shared account',
        scopes: config.scopes,
        action: path(config.id),
        csrf: browser.token(request, reply, purpose(config.id)),
        ticket: String(request.query.ticket),
      }
      return sendPage(reply, 200, confirmPage(view))
    } catch (error) {
      return fail(request, reply, error, config.name)
    }
  })

  app.post<Route>('/credential-providers/:id/authorize', async (request, reply) => {
    const config = configOf(request.params.id)
    const form = (request.body ?? {}) as Record<string, unknown>
    const browserId = browser.id(request)
    const ticket = tickets.read(form.ticket)
    const fits = config && ticket?.providerId === config.id && ticket.subject === ''
    if (
      !fits ||
      !browserId ||
      !browser.check(request, form.csrf, purpose(config.id)) ||
      !tickets.use(ticket)
    ) {
      return sendPage(reply, 410, linkExpiredPage())
    }
    try {
      const url = await shared.begin(config, browserId)
      return reply.header('cache-control', 'no-store').redirect(url.href, 303)
    } catch (error) {
      return fail(request, reply, error, config.name)
    }
  })

  app.get<Route>('/api/v1/credential-providers/:id/callback', async (request, reply) => {
    const config = configOf(request.params.id)
    if (!config) return sendPage(reply, 400, linkExpiredPage())
    try {
      const query = new URL(request.url, 'http://localhost').searchParams
      const user = await sessions.current(request)
      const by = user?.email ?? user?.subject ?? 'administrator'
      await shared.finish({ config, browser: browser.id(request), query, by })
      note('Shared account authorized', config.id, request)
      return sendPage(
        reply,
        200,
        messagePage({
          title: 'Authorized',
          text: `${config.name} is authorized for everyone whom policy lets use it.`,
          advice: 'You can close this page.',
        }),
      )
    } catch (error) {
      return fail(request, reply, error, config.name)
    }
  })

  const administration: Omit<SharedAdministration, 'pageLink'> = {
    authorize: (id) => {
      const config = configOf(id)
      if (!config) return undefined
      note('Authorization link made', id)
      return { userAuthorizationUrl: `${origin()}${path(id)}?ticket=${tickets.make(sharedKey(id)).text}` }
    },
    verification: (id) => {
      const config = configOf(id)
      if (!config) return undefined
      const stored = shared.find(config)
      if (!stored) return { state: 'NotAuthorized', account: null, expires: null }
      const expires = new Date(stored.connectedAt + config.lifetime * 1000).toISOString()
      return {
        state: stored.state === 'connected' ? 'Authorized' : 'Ended',
        account: stored.account,
        expires,
      }
    },
    discover: async (id) => {
      const { config } = snapshots.current()
      const provider = config.credentialProviders.find((each) => each.id === id)
      const policy = config.accessPolicies.find(({ credentialProvider }) => credentialProvider === id)
      const server = config.serverWorkloads.find((each) => each.id === policy?.server)
      if (!server || provider?.type !== 'mcp-enterprise-managed-access-token') return undefined
      note('Discovered', id)
      try {
        return await enterprise.discover(provider, server)
      } catch (error) {
        if (error instanceof Refused) return { problem: error.reason }
        const { code, detail } = Fault.from(error)
        return { problem: detail ?? code }
      }
    },
    revoke: async (id) => {
      const config = configOf(id)
      if (!config) return undefined
      note('Shared account revoked', id)
      return shared.disconnect(config)
    },
  }
  const pageLink = registerSharedPage(app, {
    rows: () =>
      snapshots
        .current()
        .config.credentialProviders.flatMap((config) =>
          config.type === 'oauth-authorization-code' ? [{ config, stored: shared.find(config) }] : [],
        ),
    authorize: administration.authorize,
    revoke: administration.revoke,
    browser,
    tickets,
    origin,
  })
  return { ...administration, pageLink }
}
