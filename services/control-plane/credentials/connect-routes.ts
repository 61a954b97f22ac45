import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import { unionOf } from '../../../shared/www-authenticate.ts'
import type { AuditLog } from '../events/audit.ts'
import type { SnapshotSource } from '../fleet/snapshots.ts'
import type { BrowserSessions } from '../identity/browser-session.ts'
import type { BrowserBinding } from '../identity/csrf.ts'
import type { User } from '../identity/types.ts'
import { sendPage } from '../pages/layout.ts'
import type { CircumstancesOf } from '../policy/issuance.ts'
import type { SignInView } from './company-sign-in.ts'
import {
  confirmPage,
  connectedPage,
  connectionsPage,
  failedPage,
  linkExpiredPage,
  notReachablePage,
  wrongPersonPage,
} from './connect-pages.ts'
import { configuredTarget, listViews } from './connection-list.ts'
import { type Connections, Misdirected } from './connections.ts'
import type { Target } from './grants.ts'
import type { People } from './issue.ts'
import { GrantEnded } from './oauth.ts'
import { reach } from './reach.ts'
import type { Ticket, Tickets } from './tickets.ts'

export interface ConnectRoutesDeps {
  readonly sessions: BrowserSessions
  readonly browser: BrowserBinding
  readonly people: People
  readonly snapshots: SnapshotSource
  readonly connections: Connections
  readonly tickets: Tickets
  readonly circumstances: CircumstancesOf
  /** Servers that a person's sign-in at their company opens. */
  readonly signIns: (request: FastifyRequest, user: User) => readonly SignInView[]
  readonly audit: Pick<AuditLog, 'add'>
  readonly log: Logger
}

type ServerRoute = { Params: { serverId: string }; Querystring: Record<string, unknown> }
type CallbackRoute = { Params: { credentialProviderId: string } }

const purpose = (what: string, serverId: string, user: User): string => `${what}:${serverId}:${user.subject}`
const serverPath = (serverId: string, what: string): string =>
  `/connections/${encodeURIComponent(serverId)}/${what}`
const personOf = (user: User): string => user.email ?? user.name ?? user.subject

/** The pages on which people connect, see and disconnect their accounts. */
export function registerConnections(root: FastifyInstance, deps: ConnectRoutesDeps): void {
  const { sessions, browser, people, snapshots, connections, tickets, circumstances, audit, log } = deps

  /** The server with this person's own provider, where policy says so now. */
  const targetOf = ({ ip }: FastifyRequest, user: User, serverId: string): Target | undefined => {
    const applied = snapshots.current()
    const person = people.find(user.subject)
    const reached = person && reach(applied, person, serverId, circumstances(ip), { browserIp: ip })
    if (!reached?.allow || reached.provider.type !== 'mcp-user-based-access-token') return undefined
    return { server: reached.server, provider: reached.provider }
  }
  /** What to refuse with, or the ticket (undefined without one: the person came from the list). */
  const checkTicket = (
    text: unknown,
    user: User,
    serverId: string,
  ): { page: 'wrong' | 'expired' } | { ticket?: Ticket } => {
    if (text === undefined || text === '') return {}
    const ticket = tickets.read(text)
    if (!ticket || ticket.serverId !== serverId) return { page: 'expired' }
    if (ticket.issuer !== user.issuer || ticket.subject !== user.subject) return { page: 'wrong' }
    return { ticket }
  }
  /** What a server demanded in mid-call stays granted when the account is connected again. */
  const wantedScope = (user: User, target: Target, ticket: Ticket | undefined): string | undefined => {
    const own = connections
      .list(user)
      .find(({ serverId, providerId }) => serverId === target.server.id && providerId === target.provider.id)
    return unionOf(ticket?.scope, own?.scopes)
  }
  const refuse = (reply: FastifyReply, page: 'wrong' | 'expired', user: User) =>
    page === 'wrong'
      ? sendPage(reply, 403, wrongPersonPage(personOf(user)))
      : sendPage(reply, 410, linkExpiredPage())
  const fail = (
    request: FastifyRequest,
    reply: FastifyReply,
    error: unknown,
    serverName: string,
    user: User,
  ) => {
    if (error instanceof GrantEnded) {
      log.info({ subject: user.subject, serverName, reason: error.code }, 'connecting was declined')
      return sendPage(reply, 200, failedPage(serverName, error.code, true))
    }
    const fault = Fault.from(error)
    const line = {
      subject: user.subject,
      serverName,
      code: fault.code,
      detail: fault.detail,
      requestId: request.id,
    }
    if (fault.code === 'internal') log.error({ ...line, err: error }, 'connecting failed')
    else log.warn(line, 'connecting failed')
    return sendPage(reply, 502, failedPage(serverName, `${fault.code} ${request.id}`))
  }

  const note = (
    { ip, headers }: FastifyRequest,
    user: User,
    activity: string,
    serverId: string,
    credentialProviderId: string,
  ): void =>
    audit.add({
      category: 'CredentialProvider',
      activity,
      actor: { type: 'User', displayName: personOf(user) },
      target: serverId,
      outcome: 'Success',
      severity: 'Info',
      client: {
        ip,
        ...(headers['user-agent'] === undefined ? {} : { userAgent: headers['user-agent'].slice(0, 300) }),
      },
      detail: { credentialProviderId },
    })

  root.get('/connections', async (request, reply) => {
    const user = await sessions.requireUser(request, reply, '/connections')
    if (!user) return reply
    const views = listViews(snapshots, connections.list(user), circumstances(undefined).now, (serverId) =>
      targetOf(request, user, serverId),
    )
    const csrf = (serverId: string) => browser.token(request, reply, purpose('disconnect', serverId, user))
    const { done } = request.query as Record<string, unknown>
    const notice = typeof done === 'string' ? (notices[done] ?? null) : null
    return sendPage(
      reply,
      200,
      connectionsPage(personOf(user), views, deps.signIns(request, user), csrf, notice),
    )
  })

  root.get<ServerRoute>('/connections/:serverId/connect', async (request, reply) => {
    const { serverId } = request.params
    const user = await sessions.requireUser(request, reply, request.url)
    if (!user) return reply
    const checked = checkTicket(request.query.ticket, user, serverId)
    if ('page' in checked) return refuse(reply, checked.page, user)
    const target = targetOf(request, user, serverId)
    if (!target) return sendPage(reply, 403, notReachablePage(request.id))
    try {
      const found = await connections.preview(target, wantedScope(user, target, checked.ticket))
      return sendPage(
        reply,
        200,
        confirmPage({
          serverName: target.server.name,
          serverHost: new URL(target.server.url).host || target.server.url,
          authorizationHost: new URL(found.server.authorization_endpoint).host,
          person: personOf(user),
          scopes: found.scope?.split(' ') ?? [],
          action: serverPath(serverId, 'connect'),
          csrf: browser.token(request, reply, purpose('connect', serverId, user)),
          ticket: typeof request.query.ticket === 'string' ? request.query.ticket : '',
        }),
      )
    } catch (error) {
      return fail(request, reply, error, target.server.name, user)
    }
  })

  root.post<ServerRoute>('/connections/:serverId/connect', async (request, reply) => {
    const { serverId } = request.params
    const form = formOf(request)
    const user = await sessions.requireUser(request, reply, serverPath(serverId, 'connect'))
    if (!user) return reply
    const browserId = browser.id(request)
    if (!browserId || !browser.check(request, form.csrf, purpose('connect', serverId, user))) {
      return sendPage(reply, 403, linkExpiredPage())
    }
    const checked = checkTicket(form.ticket, user, serverId)
    if ('page' in checked) return refuse(reply, checked.page, user)
    const target = targetOf(request, user, serverId)
    if (!target) return sendPage(reply, 403, notReachablePage(request.id))
    if (checked.ticket && !tickets.use(checked.ticket)) return refuse(reply, 'expired', user)
    try {
      const scope = wantedScope(user, target, checked.ticket)
      const url = await connections.begin(user, target, browserId, scope)
      return reply.header('cache-control', 'no-store').redirect(url.href, 303)
    } catch (error) {
      return fail(request, reply, error, target.server.name, user)
    }
  })

  root.get<CallbackRoute>('/mcp-auth/userauth/:credentialProviderId/callback', async (request, reply) => {
    const user = await sessions.current(request)
    const providerId = request.params.credentialProviderId
    try {
      const { serverId } = await connections.finish({
        user,
        browser: browser.id(request),
        providerId,
        query: new URL(request.url, 'http://localhost').searchParams,
        target: (id, wanted) => {
          const target = user ? targetOf(request, user, id) : undefined
          return target?.provider.id === wanted ? target : undefined
        },
      })
      const server = snapshots.current().index.servers.get(serverId)
      if (user) note(request, user, 'Account connected', serverId, providerId)
      return sendPage(reply, 200, connectedPage(server?.name ?? serverId))
    } catch (error) {
      if (error instanceof Misdirected) {
        log.warn({ providerId, reason: error.reason, subject: user?.subject }, 'authorization answer refused')
        return error.reason === 'user' && user
          ? sendPage(reply, 403, wrongPersonPage(personOf(user)))
          : sendPage(reply, 400, linkExpiredPage())
      }
      return fail(
        request,
        reply,
        error,
        'The server',
        user ?? { issuer: '', subject: '', idp: '', groups: [] },
      )
    }
  })

  root.post<ServerRoute>('/connections/:serverId/disconnect', async (request, reply) => {
    const { serverId } = request.params
    const form = formOf(request)
    const user = await sessions.requireUser(request, reply, '/connections')
    if (!user) return reply
    if (!browser.check(request, form.csrf, purpose('disconnect', serverId, user))) {
      return sendPage(reply, 403, linkExpiredPage())
    }
    const providerId = typeof form.provider === 'string' ? form.provider : ''
    const { issuer, subject } = user
    const connected = connections
      .list(user)
      .some((stored) => stored.serverId === serverId && stored.providerId === providerId)
    const done = await connections.disconnect(
      { issuer, subject, serverId, providerId },
      configuredTarget(snapshots, serverId, providerId),
    )
    if (connected) note(request, user, 'Account disconnected', serverId, providerId)
    return reply.redirect(`/connections?done=${done}`, 303)
  })
}

const notices: Record<string, string> = {
  revoked: 'Disconnected. The server was told to end the access, too.',
  forgotten:
    'Disconnected here. The server was not told or did not confirm: end the access in your account there as well.',
}

function formOf(request: FastifyRequest): Record<string, unknown> {
  return typeof request.body === 'object' && request.body !== null
    ? (request.body as Record<string, unknown>)
    : {}
}
