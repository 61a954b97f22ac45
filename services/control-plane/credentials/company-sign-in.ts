import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { SnapshotSource } from '../fleet/snapshots.ts'
import type { BrowserSessions } from '../identity/browser-session.ts'
import type { BrowserBinding } from '../identity/csrf.ts'
import type { User } from '../identity/types.ts'
import { html } from '../pages/html.ts'
import { sendPage } from '../pages/layout.ts'
import { messagePage } from '../pages/message.ts'
import type { CircumstancesOf } from '../policy/issuance.ts'
import { linkExpiredPage, wrongPersonPage } from './connect-pages.ts'
import type { IdpAssertions } from './idp-assertions.ts'
import type { People } from './issue.ts'
import { reach } from './reach.ts'
import type { Tickets } from './tickets.ts'

/** A server that the person's sign-in at their company opens. */
export interface SignInView {
  readonly serverId: string
  readonly serverName: string
  readonly idp: string
  readonly idpName: string
  /** False: they have to sign in (again) before their agents can use it. */
  readonly signedIn: boolean
}

export interface CompanySignInDeps {
  readonly sessions: BrowserSessions
  readonly browser: BrowserBinding
  readonly people: People
  readonly snapshots: SnapshotSource
  readonly assertions: IdpAssertions
  readonly tickets: Tickets
  readonly circumstances: CircumstancesOf
}

type Route = { Params: { serverId: string }; Querystring: Record<string, unknown> }

/** The page that a link to sign in again leads to; answers which servers hang on the sign-in of a person. */
export function registerCompanySignIn(app: FastifyInstance, deps: CompanySignInDeps) {
  const { sessions, browser, people, snapshots, assertions, tickets, circumstances } = deps

  const views = ({ ip }: FastifyRequest, user: User): SignInView[] => {
    const applied = snapshots.current()
    const person = people.find(user.subject)
    if (!person) return []
    return applied.config.serverWorkloads.flatMap(({ id, name }) => {
      const reached = reach(applied, person, id, circumstances(ip), { browserIp: ip })
      if (!reached.allow || reached.provider.type !== 'mcp-enterprise-managed-access-token') return []
      const idp = reached.provider.identityProvider
      return [
        {
          serverId: id,
          serverName: name,
          idp,
          idpName: nameOf(idp),
          signedIn: assertions.signIn(idp, user.subject) !== undefined,
        },
      ]
    })
  }
  const nameOf = (idp: string): string =>
    snapshots.current().config.identityProviders.find(({ id }) => id === idp)?.name ?? idp

  app.get<Route>('/connections/:serverId/sign-in', async (request, reply) => {
    const { config } = snapshots.current()
    const server = config.serverWorkloads.find(({ id }) => id === request.params.serverId)
    const user = await sessions.current(request)
    const ticket = request.query.ticket === undefined ? undefined : tickets.read(request.query.ticket)
    if (!server || (!user && !ticket) || (request.query.ticket !== undefined && !ticket)) {
      return sendPage(reply, 410, linkExpiredPage())
    }
    if (user && ticket && (ticket.subject !== user.subject || ticket.issuer !== user.issuer)) {
      return sendPage(reply, 403, wrongPersonPage(user.email ?? user.name ?? user.subject))
    }
    const providerId =
      ticket?.providerId ??
      config.accessPolicies.find(
        ({ server: id, credentialProvider }) =>
          id === server.id &&
          config.credentialProviders.some(
            (each) => each.id === credentialProvider && each.type === 'mcp-enterprise-managed-access-token',
          ),
      )?.credentialProvider
    const provider = config.credentialProviders.find(({ id }) => id === providerId)
    if (provider?.type !== 'mcp-enterprise-managed-access-token') {
      return sendPage(reply, 410, linkExpiredPage())
    }
    const idp = provider.identityProvider
    // The identity room's own form: it begins the sign-in and brings the browser back to the list.
    return sendPage(
      reply,
      200,
      messagePage({
        title: `Sign in to use ${server.name}`,
        text: `Your agents use ${server.name} with your sign-in at ${nameOf(idp)}. It ended, or was made before that was so.`,
        advice: 'Sign in, then try again in your agent. Signing out here ends it again.',
        form: html`<form method="post" action="/sign-in/idp?return_to=${encodeURIComponent('/connections')}">
<input type="hidden" name="csrf" value="${browser.token(request, reply, 'sign-in')}">
<input type="hidden" name="idp" value="${idp}">
<div class="row"><a class="button" href="/connections">Not now</a>
<button class="button primary" type="submit">Continue with ${nameOf(idp)}</button></div></form>`,
      }),
    )
  })
  return views
}
