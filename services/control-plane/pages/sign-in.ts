import { html } from './html.ts'
import type { Page } from './layout.ts'

export interface SignInView {
  /** Name of the agent that waits, or null where a page of ours sent the person here. */
  readonly clientName: string | null
  readonly csrf: string
  /** Where the forms go, without a trailing slash: `<action>/password`, `<action>/idp`, `<action>/cancel`. */
  readonly action: string
  /** Query of the forms' addresses, with its `?`. */
  readonly query?: string
  /** Embedded directories; all of them take an address and a password. */
  readonly directories: readonly { id: string; name: string }[]
  readonly externals: readonly { id: string; name: string }[]
  /** Whether the address alone can say which provider it is. */
  readonly byEmail: boolean
  /** Value of the address field: what was typed, or the client's login_hint. */
  readonly email: string
  readonly error: string | null
  readonly cancellable: boolean
}

export function signInPage(view: SignInView): Page {
  const csrf = html`<input type="hidden" name="csrf" value="${view.csrf}">`
  const external = view.externals.map(
    (idp) => html`<form method="post" action="${view.action}/idp${view.query}">${csrf}
<input type="hidden" name="idp" value="${idp.id}">
<button class="button" type="submit">Continue with ${idp.name}</button></form>`,
  )
  const byEmail =
    view.byEmail &&
    html`<form method="post" action="${view.action}/idp${view.query}">${csrf}
<label for="work-email">Work email</label>
<input id="work-email" name="email" type="email" autocomplete="username" required maxlength="254" value="${view.email}"${
      view.directories.length === 0 ? html` autofocus` : ''
    }>
<button class="button primary submit" type="submit">Continue</button></form>
${external.length > 0 && html`<div class="or">or</div>`}`
  const passwords = view.directories.map(
    (directory, index) => html`${
      (index > 0 || external.length > 0) &&
      html`<div class="or">${view.directories.length > 1 ? directory.name : 'or'}</div>`
    }
<form method="post" action="${view.action}/password${view.query}">${csrf}
<input type="hidden" name="idp" value="${directory.id}">
<label for="email-${index}">Email</label>
<input id="email-${index}" name="email" type="email" autocomplete="username" required maxlength="254" value="${view.email}"${
      index === 0 && view.email === '' && !view.byEmail ? html` autofocus` : ''
    }${view.error && index === 0 ? html` aria-describedby="problem"` : ''}>
<label for="password-${index}">Password</label>
<input id="password-${index}" name="password" type="password" autocomplete="current-password" required maxlength="1024"${
      index === 0 && view.email !== '' ? html` autofocus` : ''
    }>
<button class="button primary submit" type="submit">Sign in</button></form>`,
  )
  return {
    title: 'Sign in',
    body: html`<h1>Sign in</h1>
<p class="lead">${
      view.clientName === null
        ? 'Sign in to manage your connections.'
        : html`<strong>${view.clientName}</strong> wants to use MCP servers on your behalf.`
    }</p>
${view.error && html`<p class="notice bad" id="problem" role="alert">${view.error}</p>`}
${byEmail}
${external.length > 0 && html`<div class="stack">${external}</div>`}
${passwords}
${
  view.cancellable &&
  html`<form method="post" action="${view.action}/cancel${view.query}">${csrf}
<button class="button quiet" type="submit">Cancel</button></form>`
}`,
  }
}
