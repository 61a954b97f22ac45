import { html } from './html.ts'
import type { Page } from './layout.ts'

export interface AgentView {
  readonly clientId: string
  readonly name: string
  /** Where its answers go. */
  readonly destination: string
  readonly scopes: readonly string[]
  /** Milliseconds since the epoch. */
  readonly grantedAt: number
}

/** The agents that a person allowed, each with a button that takes it back. */
export function agentsPage(person: string, agents: readonly AgentView[], csrf: string): Page {
  return {
    title: 'My agents',
    body: html`<h1>My agents</h1>
<p class="lead">Agents that act for <strong>${person}</strong>.</p>
${
  agents.length === 0
    ? html`<p class="notice calm">You have allowed none. An agent asks you when it connects for the first time.</p>`
    : html`<ul class="list">${agents.map(
        (
          agent,
        ) => html`<li>${agent.name}<small>answers go to ${agent.destination}; scopes ${agent.scopes.join(' ')}; allowed ${new Date(agent.grantedAt).toISOString().slice(0, 10)}</small>
<form method="post" action="/agents/withdraw"><input type="hidden" name="csrf" value="${csrf}">
<input type="hidden" name="client_id" value="${agent.clientId}"><button class="button" type="submit">Withdraw</button></form></li>`,
      )}</ul>`
}
<p class="hint">What you withdraw stops at once, in every window of that agent. It has to ask you again.</p>
<p class="hint"><a href="/connections">My connections</a> · <a href="/sign-out">Sign out of this browser</a></p>`,
  }
}
