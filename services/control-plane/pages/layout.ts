import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { type Html, html } from './html.ts'

const css = readFileSync(join(import.meta.dirname, 'style.css'), 'utf8')
const icon = readFileSync(join(import.meta.dirname, 'icon.svg'), 'utf8')
const version = createHash('sha256').update(css).digest('base64url').slice(0, 10)
export const stylePath = `/assets/style-${version}.css`

/**
 * What every page for people carries. No script runs and nothing may frame us. There is no `form-action`: Chromium
 * applies it to each redirect that follows a form post, and ours end at the agent's own callback and wherever that
 * sends the browser next, which no list of ours can name.
 */
export const pageHeaders: Readonly<Record<string, string>> = {
  'content-type': 'text/html; charset=utf-8',
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'",
  'x-frame-options': 'DENY',
  'x-content-type-options': 'nosniff',
  // Not `no-referrer`: it would turn the Origin header of our own forms into `null`.
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
}

export interface Page {
  readonly title: string
  readonly body: Html
}

/** A whole document around one card. */
export function renderPage({ title, body }: Page): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>${title} · MCP Identity Gateway</title>
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="${stylePath}">
</head>
<body>
<header class="brand"><img src="/assets/icon.svg" alt="" width="28" height="28"><span>MCP Identity Gateway</span></header>
<main class="card">
${body}
</main>
</body>
</html>
`.toString()
}

export function sendPage(reply: FastifyReply, status: number, page: Page): FastifyReply {
  return reply.code(status).headers(pageHeaders).send(renderPage(page))
}

/** The one style sheet and the one icon; the sheet's name changes with its content. */
export function registerAssets(app: FastifyInstance): void {
  const headers = {
    'cache-control': 'public, max-age=31536000, immutable',
    'x-content-type-options': 'nosniff',
  }
  app.get(stylePath, (_request, reply) => reply.headers(headers).type('text/css; charset=utf-8').send(css))
  app.get('/assets/icon.svg', (_request, reply) =>
    reply
      .headers({
        ...headers,
        'cache-control': 'public, max-age=86400',
        'content-security-policy': "default-src 'none'",
      })
      .type('image/svg+xml')
      .send(icon),
  )
}
