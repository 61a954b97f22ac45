import { html } from './html.ts'
import type { Page } from './layout.ts'

export interface ConsentView {
  readonly clientName: string
  readonly person: string
  readonly action: string
  readonly csrf: string
  /** Host, or scheme of an app's own link, that the answer goes to. */
  readonly destination: string
  /** Loopback or an app's own scheme: any program on the computer may be behind it. */
  readonly local: boolean
  readonly scopes: readonly string[]
  readonly servers: readonly { name: string; host: string }[]
  /** Host of the client id metadata document: who vouches for the client's name. Null for other clients. */
  readonly publisher: string | null
  /** False where the client named itself in a dynamic registration. */
  readonly verified: boolean
}

const meaning: Record<string, string> = {
  mcp: 'Use the MCP servers below as you',
  openid: 'Know who you are',
  profile: 'See your name and groups',
  email: 'See your email address',
  offline_access: 'Stay connected while you are away',
}

export function consentPage(view: ConsentView): Page {
  return {
    title: `Allow ${view.clientName}`,
    body: html`<h1>Allow ${view.clientName}?</h1>
<p class="lead">It asks to act for <strong>${view.person}</strong>.</p>
<h2>It will be able to</h2>
<ul class="list">${view.scopes.map((scope) => html`<li>${meaning[scope] ?? 'Work as an agent of this kind'}<small>scope <code>${scope}</code></small></li>`)}</ul>
<h2>MCP servers within reach</h2>
${
  view.servers.length > 0
    ? html`<ul class="list">${view.servers.map((server) => html`<li>${server.name}<small>${server.host}</small></li>`)}</ul>`
    : html`<p class="notice">No policy lets you reach a server yet. You can connect all the same; servers appear once a policy allows them.</p>`
}
<dl class="facts">${view.publisher !== null && html`<dt>The agent is described by</dt><dd><strong>${view.publisher}</strong></dd>`}
<dt>The answer goes to</dt><dd><strong>${view.destination}</strong></dd></dl>
${
  view.local
    ? html`<p class="notice">That is a program on this computer. Allow it only if you just started this sign-in yourself.</p>`
    : !view.verified &&
      html`<p class="notice">The agent gave its name itself. Allow it only if you know <strong>${view.destination}</strong>.</p>`
}
<form method="post" action="${view.action}/consent"><input type="hidden" name="csrf" value="${view.csrf}">
<div class="row"><button class="button" type="submit" name="decision" value="deny">Deny</button>
<button class="button primary" type="submit" name="decision" value="allow">Allow</button></div></form>
<p class="hint">The agent never sees your password or the servers' credentials. You are asked once per agent.</p>`,
  }
}
