import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { createCookieJar } from '../identity/cookies.ts'
import type { BrowserBinding } from '../identity/csrf.ts'
import { type Html, html } from '../pages/html.ts'
import { type Page, sendPage } from '../pages/layout.ts'
import { linkExpiredPage, problemText, time } from './connect-pages.ts'
import type { SharedConfig } from './shared-account.ts'
import type { Tickets } from './tickets.ts'
import type { CredentialKey, StoredCredential } from './vault.ts'

export interface SharedAccountRow {
  readonly config: SharedConfig
  readonly stored: StoredCredential | undefined
}

export interface SharedPageDeps {
  readonly rows: () => readonly SharedAccountRow[]
  /** The one-time link that authorizes one. */
  readonly authorize: (id: string) => { userAuthorizationUrl: string } | undefined
  readonly revoke: (id: string) => Promise<'revoked' | 'forgotten' | undefined>
  readonly browser: BrowserBinding
  readonly tickets: Tickets
  readonly origin: () => string
}

const path = '/shared-accounts'
const cookie = 'shared-accounts'
const cookieSecs = 600
/** Nobody's and no provider's: ids have no such characters. */
const key = (providerId: '*link' | '*page'): CredentialKey => ({
  issuer: '',
  subject: '',
  serverId: '',
  providerId,
})
const notices: Record<string, string> = {
  revoked: 'Revoked. The server was told to end the access, too.',
  forgotten: 'Forgotten here. The server was not told or did not confirm: end the access there as well.',
}

/**
 * The page on which administrators see and change accounts that everyone shares. A link of the administration API, good
 * once, opens it for this browser for ten minutes; answers how such a link is made.
 */
export function registerSharedPage(app: FastifyInstance, deps: SharedPageDeps): () => string {
  const { rows, authorize, revoke, browser, tickets, origin } = deps
  const purpose = (id: string): string => `shared-account:${id}`
  const allowed = (request: FastifyRequest): boolean =>
    tickets.read(createCookieJar(origin()).read(request, cookie))?.providerId === '*page'
  const refuse = (reply: FastifyReply) => sendPage(reply, 410, linkExpiredPage())

  app.get<{ Querystring: Record<string, unknown> }>(path, async (request, reply) => {
    const { ticket: text, done } = request.query
    if (text !== undefined) {
      const ticket = tickets.read(text)
      if (ticket?.providerId !== '*link' || !tickets.use(ticket)) return refuse(reply)
      createCookieJar(origin()).write(reply, cookie, tickets.make(key('*page')).text, cookieSecs)
      return reply.redirect(path, 303)
    }
    if (!allowed(request)) return refuse(reply)
    const csrf = (id: string) => browser.token(request, reply, purpose(id))
    return sendPage(reply, 200, listPage(rows(), csrf, notices[String(done)] ?? null))
  })

  type Route = { Params: { id: string; action: string }; Body: Record<string, unknown> | undefined }
  app.post<Route>(`${path}/:id/:action`, async (request, reply) => {
    const { id, action } = request.params
    if (!allowed(request) || !browser.check(request, request.body?.csrf, purpose(id))) return refuse(reply)
    if (action === 'authorize') {
      const made = authorize(id)
      return made ? reply.redirect(made.userAuthorizationUrl, 303) : refuse(reply)
    }
    const done = action === 'revoke' ? await revoke(id) : undefined
    return done ? reply.redirect(`${path}?done=${done}`, 303) : refuse(reply)
  })

  return () => `${origin()}${path}?ticket=${tickets.make(key('*link')).text}`
}

function listPage(
  rows: readonly SharedAccountRow[],
  csrf: (id: string) => string,
  notice: string | null,
): Page {
  return {
    title: 'Shared accounts',
    body: html`<h1>Shared accounts</h1>
<p class="lead">Accounts that everyone uses whom policy lets through.</p>
${notice && html`<p class="notice" role="status">${notice}</p>`}
${
  rows.length > 0
    ? html`<ul class="list">${rows.map((row) => item(row, csrf(row.config.id)))}</ul>`
    : html`<p>No credential provider of the configuration is of type <code>oauth-authorization-code</code>.</p>`
}
<p class="hint">This page is open in this browser for ten minutes.</p>`,
  }
}

function item({ config, stored }: SharedAccountRow, csrf: string): Html {
  const state = !stored
    ? 'Not authorized'
    : stored.state === 'broken'
      ? 'Needs to be authorized again'
      : 'Authorized'
  const facts = stored
    ? [
        stored.account !== null && `account ${stored.account}`,
        stored.connectedBy !== null && `authorized by ${stored.connectedBy}, ${time(stored.connectedAt)}`,
        `ends ${time(stored.connectedAt + config.lifetime * 1000)}`,
        stored.lastUsedAt !== null && `last used ${time(stored.lastUsedAt)}`,
        stored.lastError !== null && `last problem: ${problemText(stored.lastError)}`,
      ].filter((fact): fact is string => typeof fact === 'string')
    : []
  const base = `${path}/${encodeURIComponent(config.id)}`
  const word = stored ? 'Authorize again' : 'Authorize'
  const form = (action: string, label: string, style: string) =>
    html`<form method="post" action="${base}/${action}"><input type="hidden" name="csrf" value="${csrf}">
<button class="button ${style}" type="submit" aria-label="${label}: ${config.name}">${label}</button></form>`
  return html`<li><strong>${config.name}</strong> · ${state}
${facts.map((fact) => html`<small>${fact}</small>`)}
<div class="row">${form('authorize', word, '')}${stored && form('revoke', 'Revoke', 'quiet')}</div></li>`
}
