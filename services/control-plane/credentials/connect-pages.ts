import { type Html, html } from '../pages/html.ts'
import type { Page } from '../pages/layout.ts'
import { messagePage } from '../pages/message.ts'
import type { SignInView } from './company-sign-in.ts'

export interface ConfirmView {
  readonly serverName: string
  readonly serverHost: string
  readonly authorizationHost: string
  readonly person: string
  readonly scopes: readonly string[]
  readonly action: string
  readonly csrf: string
  /** The link's ticket; empty where the person came from the list. */
  readonly ticket: string
}

/** What connecting means, before the browser leaves for a server that somebody else runs. */
export function confirmPage(view: ConfirmView): Page {
  return {
    title: `Connect ${view.serverName}`,
    body: html`<h1>Connect ${view.serverName}?</h1>
<p class="lead">Your agents can then use <strong>${view.serverName}</strong> as you.</p>
<dl class="facts"><dt>For</dt><dd><strong>${view.person}</strong></dd>
<dt>Server</dt><dd>${view.serverHost}</dd>
<dt>You sign in at</dt><dd><strong>${view.authorizationHost}</strong></dd></dl>
<h2>It will be asked for</h2>
${
  view.scopes.length > 0
    ? html`<ul class="list">${view.scopes.map((scope) => html`<li><code>${scope}</code></li>`)}</ul>`
    : html`<p>What that server gives by default.</p>`
}
<form method="post" action="${view.action}"><input type="hidden" name="csrf" value="${view.csrf}">
<input type="hidden" name="ticket" value="${view.ticket}">
<div class="row"><a class="button" href="/connections">Not now</a>
<button class="button primary" type="submit">Continue to ${view.authorizationHost}</button></div></form>
<p class="hint">Continue only if you asked for this. The agent never sees the credential; you can disconnect at any time.</p>`,
  }
}

export interface ConnectionView {
  readonly serverId: string
  readonly serverName: string
  readonly providerId: string
  /** `ended`: its token is over and nothing renews it. */
  readonly state: 'connected' | 'ended' | 'broken' | 'none'
  /** The gateway renews it without the person. */
  readonly renews: boolean
  readonly account: string | null
  readonly scopes: string
  /** Milliseconds since the epoch. */
  readonly expiresAt: number | null
  readonly lastUsedAt: number | null
  readonly lastError: string | null
  /** False where policy no longer lets the person reach the server: only disconnecting is left. */
  readonly reachable: boolean
}

const states = {
  connected: { text: 'Connected', look: 'good' },
  ended: { text: 'Ended', look: 'bad' },
  broken: { text: 'Needs to be connected again', look: 'bad' },
  none: { text: 'Not connected', look: 'plain' },
} as const

export function connectionsPage(
  person: string,
  connections: readonly ConnectionView[],
  signIns: readonly SignInView[],
  csrf: (serverId: string) => string,
  notice: string | null,
): Page {
  return {
    title: 'My connections',
    body: html`<h1>My connections</h1>
<p class="lead">Accounts that your agents use through this gateway, for <strong>${person}</strong>.</p>
${notice && html`<p class="notice" role="status">${notice}</p>`}
${
  connections.length > 0
    ? html`<ul class="list">${connections.map((each) => connectionItem(each, csrf(each.serverId)))}</ul>`
    : signIns.length === 0 && html`<p>No server within your reach needs an account of yours.</p>`
}
${
  signIns.length > 0 &&
  html`<h2>Opened by your sign-in</h2>
<ul class="list">${signIns.map(signInItem)}</ul>`
}
<p class="hint"><a href="/sign-out">Sign out of this browser</a></p>`,
  }
}

function signInItem({ serverId, serverName, idpName, signedIn }: SignInView): Html {
  const link = html`<div class="row"><a class="button primary" href="/connections/${encodeURIComponent(serverId)}/sign-in" aria-label="Sign in for ${serverName}">Sign in</a></div>`
  const badge = signedIn
    ? html`<span class="badge good">Ready</span>`
    : html`<span class="badge bad">Needs you to sign in</span>`
  return html`<li><div class="head"><strong>${serverName}</strong> ${badge}</div>
<small>your sign-in at ${idpName}${signedIn && '; signing out here ends it'}</small>${!signedIn && link}</li>`
}

function connectionItem(view: ConnectionView, csrf: string): Html {
  const { serverName, state, account, scopes, lastUsedAt, lastError, reachable } = view
  const { text, look } = states[state]
  const facts: readonly (readonly [string, Html | string | false | null])[] = [
    ['Account', account],
    ['Scopes', scopes !== '' && html`${scopes.split(' ').map((scope) => html`<code>${scope}</code> `)}`],
    ['Token', tokenText(view)],
    ['Last used', state !== 'none' && (lastUsedAt === null ? 'not yet' : time(lastUsedAt))],
    ['Last problem', lastError !== null && html`<span class="bad">${problemText(lastError)}</span>`],
  ]
  const shown = facts.filter(([, fact]) => fact !== false && fact !== null)
  const base = `/connections/${encodeURIComponent(view.serverId)}`
  const again = state === 'none' ? 'Connect' : 'Connect again'
  return html`<li><div class="head"><strong>${serverName}</strong> <span class="badge ${look}">${text}</span></div>
${shown.length > 0 && html`<dl class="facts">${shown.map(([name, fact]) => html`<dt>${name}</dt><dd>${fact}</dd>`)}</dl>`}
${!reachable && html`<small>Policy no longer lets you use this server.</small>`}
<div class="row">${
    reachable &&
    html`<a class="button${state === 'connected' ? '' : ' primary'}" href="${base}/connect" aria-label="${again}: ${serverName}">${again}</a>`
  }${
    state !== 'none' &&
    html`<form method="post" action="${base}/disconnect"><input type="hidden" name="csrf" value="${csrf}">
<input type="hidden" name="provider" value="${view.providerId}">
<button class="button${reachable ? ' quiet' : ''}" type="submit" aria-label="Disconnect: ${serverName}">Disconnect</button></form>`
  }</div></li>`
}

function tokenText({ state, renews, expiresAt }: ConnectionView): string | false {
  if (state === 'none' || state === 'broken') return false
  if (expiresAt === null) return 'has no end'
  if (state === 'ended') return `ended ${time(expiresAt)}, and the server gives none that is renewed`
  return renews
    ? `until ${time(expiresAt)}, renewed by itself`
    : `until ${time(expiresAt)}, then you are asked to connect again`
}

const problems: Readonly<Record<string, string>> = {
  invalid_grant: 'the access ended or was taken back at the server',
  no_refresh_token: 'the server gives no access that lasts longer',
  client_changed: 'an administrator changed how the gateway signs in there',
  refused_by_server: 'the server keeps refusing the access it gave',
  authorization_server_changed: 'the server moved to another sign-in',
  invalid_client: 'the server no longer knows this gateway',
  unauthorized_client: 'the server no longer lets this gateway in',
}
const renewalFailed = 'refresh failed: '

/** The code stays: it is what an administrator looks for. */
export const problemText = (code: string): string => {
  if (code.startsWith(renewalFailed))
    return `renewing failed and is tried again (${code.slice(renewalFailed.length)})`
  const text = problems[code]
  return text === undefined ? code : `${text} (${code})`
}

export function connectedPage(serverName: string): Page {
  return messagePage({
    title: 'Connected',
    text: `Your ${serverName} account is connected.`,
    advice: 'Go back to your agent and try again. You can close this page.',
    form: html`<p class="hint"><a href="/connections">My connections</a></p>`,
  })
}

export function wrongPersonPage(person: string): Page {
  return messagePage({
    title: 'This link is for someone else',
    text: `You are signed in here as ${person}, but this link was made for another person's agent. Nothing was connected.`,
    advice:
      'If the agent is yours, sign out and sign in as the person the agent signed in as. If somebody sent you this link, close the page.',
    form: html`<p class="hint"><a href="/sign-out">Sign out of this browser</a></p>`,
  })
}

export function linkExpiredPage(): Page {
  return messagePage({
    title: 'This link has expired',
    text: 'Links to connect an account work once and for ten minutes.',
    advice:
      'Try again in your agent: it gives you a fresh one. Or connect the server from the list of your connections.',
    form: html`<p class="hint"><a href="/connections">My connections</a></p>`,
  })
}

export function notReachablePage(reference: string): Page {
  return messagePage({
    title: 'Not allowed by policy',
    text: 'No access policy lets you use this server with an account of your own.',
    advice: 'An administrator can change that.',
    reference,
  })
}

export function failedPage(serverName: string, reference: string, declined = false): Page {
  return messagePage({
    title: declined ? 'Not connected' : `${serverName} could not be connected`,
    text: declined
      ? `You or ${serverName} declined the connection. Nothing was stored.`
      : `${serverName} or its sign-in did not answer in a way that this gateway accepts. Nothing was stored.`,
    advice: declined
      ? 'Start again from your agent or from the list of your connections.'
      : 'Try again in a minute. If it stays so, tell an administrator the reference.',
    reference,
    form: html`<p class="hint"><a href="/connections">My connections</a></p>`,
  })
}

/** `2026-11-23 10:00 UTC`. */
export function time(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
