import { type Html, html } from './html.ts'
import type { Page } from './layout.ts'

export interface MessageView {
  readonly title: string
  readonly text: string
  /** What the person, or the administrator they ask, can do. */
  readonly advice?: string
  /** Shown small, for a support ticket. */
  readonly reference?: string
  readonly form?: Html
}

export function messagePage(view: MessageView): Page {
  return {
    title: view.title,
    body: html`<h1>${view.title}</h1>
<p>${view.text}</p>
${view.advice && html`<p class="lead">${view.advice}</p>`}
${view.form}
${view.reference && html`<p class="hint">Reference: <code>${view.reference}</code></p>`}`,
  }
}

export const expiredPage: Page = messagePage({
  title: 'This link has expired',
  text: 'The sign-in was finished, cancelled, or left open for too long, or it was started in another browser.',
  advice: 'Start again from your agent: it opens a fresh page.',
})

export interface RefusalView {
  readonly clientName: string
  readonly person: string
  readonly destination: string
  /** Which policy is missing or does not fit, in words. */
  readonly reason: string
  readonly code: string
  readonly action: string
  readonly csrf: string
}

/** Policy lets this person not use this client: says which policy, and hands `access_denied` back on request. */
export function refusalPage(view: RefusalView): Page {
  return messagePage({
    title: 'Not allowed by policy',
    text: `You signed in as ${view.person}, but no access policy lets you use ${view.clientName} (${view.destination}) with this gateway.`,
    advice: `${view.reason} An administrator can change that.`,
    reference: view.code,
    form: html`<form method="post" action="${view.action}/deny"><input type="hidden" name="csrf" value="${view.csrf}">
<button class="button primary" type="submit">Back to ${view.clientName}</button></form>
<form method="post" action="${view.action}/switch"><input type="hidden" name="csrf" value="${view.csrf}">
<button class="button quiet" type="submit">Sign in as someone else</button></form>`,
  })
}
