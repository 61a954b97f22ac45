import formbody from '@fastify/formbody'
import Fastify, { type FastifyError, type FastifyInstance, type FastifyRequest } from 'fastify'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { html } from './pages/html.ts'
import { sendPage } from './pages/layout.ts'
import { messagePage } from './pages/message.ts'

/**
 * The app behind public.sock: what browsers and agents reach through the gateway. `x-forwarded-*` is believed,
 * because only the gateway's proxy can open the socket and it replaces what a client says there.
 */
export async function createPublicApp(log: Logger, resource: () => string): Promise<FastifyInstance> {
  const app = Fastify({
    trustProxy: true,
    bodyLimit: 64 * 1024,
    requestTimeout: 30_000,
    keepAliveTimeout: 75_000,
    forceCloseConnections: 'idle',
    // The proxy and the pages read this log, not Fastify's own request log: its lines would hold codes and states.
    logger: false,
  })
  await app.register(formbody)

  app.setNotFoundHandler((request, reply) =>
    wantsPage(request)
      ? sendPage(
          reply,
          404,
          messagePage({
            title: 'There is nothing here',
            text: 'This address leads to no page of this gateway.',
          }),
        )
      : reply
          .code(404)
          .type('application/problem+json')
          .send(problem(404, 'http.not_found', 'There is nothing at this path.')),
  )
  app.setErrorHandler<FastifyError | Fault>((error, request, reply) => {
    const status = error instanceof Fault ? error.spec.status : (error.statusCode ?? 500)
    const code =
      error instanceof Fault
        ? error.code
        : status === 413
          ? 'http.body_too_large'
          : status < 500
            ? 'http.bad_request'
            : 'internal'
    const text = error instanceof Fault || status < 500 ? error.message : 'Internal error.'
    // The path without its query, which may hold a code or a state.
    const line = { method: request.method, path: request.url.split('?')[0], status, code }
    if (status >= 500) log.error({ ...line, err: error }, 'request failed')
    else log.info({ ...line, detail: error.message }, 'request refused')
    if (!wantsPage(request))
      return reply
        .code(status)
        .type('application/problem+json')
        .send(problem(status, code, text))
    return sendPage(
      reply,
      status,
      messagePage({
        title: status < 500 ? 'That did not work' : 'Something went wrong',
        text: status < 500 ? text : 'The gateway could not answer. It is in its log.',
        advice: 'Go back and try again.',
        reference: request.id,
      }),
    )
  })

  app.get('/', (_request, reply) =>
    sendPage(reply, 200, {
      title: 'Welcome',
      body: html`<h1>One endpoint for your agents</h1>
<p>Add this MCP server to your agent. It opens a sign-in page here and reaches every server that policy lets you use.</p>
<ul class="list"><li><code>${resource()}</code></li></ul>
<p class="hint"><a href="/connections">My connections</a> · <a href="/agents">My agents</a> · <a href="/sign-out">Sign out of this browser</a></p>`,
    }),
  )
  return app
}

function wantsPage(request: FastifyRequest): boolean {
  return (request.headers.accept ?? '').includes('text/html')
}

function problem(status: number, code: string, title: string) {
  return { type: 'about:blank', title, status, code }
}
