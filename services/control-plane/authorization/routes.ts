import { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from '../../../shared/clock.ts'
import type { Logger } from '../../../shared/log.ts'
import { createRateLimit } from '../../../shared/rate-limit.ts'
import type { Refuse } from '../events/refusals.ts'
import type { ArtefactStore } from './adapter.ts'
import { RegistrationRefused, registrationMetadata } from './clients.ts'
import { carry, type Presented } from './presented.ts'
import { routes } from './provider.ts'
import { canonicalResources } from './resource.ts'
import { type AuthorizationSettings, resourceScope } from './settings.ts'

export type Callback = (request: IncomingMessage, response: FastifyReply['raw']) => Promise<void>

export interface AuthorizationRoutesDeps {
  /** The running authorization server and its settings: a reload replaces both. */
  readonly current: () => { callback: Callback; settings: AuthorizationSettings }
  readonly store: ArtefactStore
  /** A JWT access token as a stored one; undefined where it is none of ours, or, if wanted, none that is active. */
  readonly presented: (token: string, wanted: { active: boolean }) => Promise<Presented | undefined>
  readonly refuse: Refuse
  readonly clock: Clock
  readonly log: Logger
}

interface Over {
  readonly url?: string
  readonly body?: Buffer
  /** The token that the request shows. */
  readonly presented?: Presented | undefined
}

/** oidc-provider's own limit. */
const bodyLimit = 56 * 1024
/** Dynamic registration by one address: this many at once, then one in each interval. */
const registrationBurst = 60
const registrationRefillMs = 10_000
const maxClients = 100_000
/** Revocations of one client at one address: each is told to every gateway and kept while its token would live. */
const revocationBurst = 300
const revocationRefillMs = 1_000

/**
 * The endpoints of the authorization server. Requests are put in order here (resource, scope, registration rules)
 * and then handed to oidc-provider, with the issuer's own origin as theirs: no URL of ours depends on a header.
 */
export function registerAuthorizationServer(root: FastifyInstance, deps: AuthorizationRoutesDeps): void {
  const { current, store, presented, clock, log } = deps
  const limit = createRateLimit(clock, registrationBurst, registrationRefillMs)
  const revocations = createRateLimit(clock, revocationBurst, revocationRefillMs)

  const hand = async (request: FastifyRequest, reply: FastifyReply, over: Over = {}) => {
    const { callback, settings } = current()
    reply.hijack()
    await callback(replay(request.raw, settings.issuer, over), reply.raw)
  }

  root.register(async (app) => {
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit }, (_request, body, done) =>
      done(null, body),
    )
    const pass = (request: FastifyRequest, reply: FastifyReply) => hand(request, reply)
    const bytes = (request: FastifyRequest): Buffer =>
      Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)

    for (const url of [
      routes.jwks,
      '/.well-known/oauth-authorization-server',
      '/.well-known/openid-configuration',
      `${routes.authorization}/:uid`,
    ]) {
      app.get(url, pass)
    }
    for (const url of [
      routes.jwks,
      '/.well-known/oauth-authorization-server',
      '/.well-known/openid-configuration',
      routes.token,
      routes.revocation,
      routes.introspection,
    ]) {
      app.options(url, pass)
    }

    app.get(routes.authorization, (request, reply) => {
      const url = new URL(request.url, 'http://unused')
      authorizationQuery(url.searchParams, current().settings.resource)
      return hand(request, reply, { url: `${url.pathname}${url.search}` })
    })

    app.post(routes.token, (request, reply) => {
      if (!isForm(request)) return hand(request, reply, { body: bytes(request) })
      const form = new URLSearchParams(bytes(request).toString())
      setResources(form, current().settings.resource)
      return hand(request, reply, { body: Buffer.from(form.toString()) })
    })
    for (const url of [routes.revocation, routes.introspection]) {
      app.post(url, async (request, reply) => {
        if (!isForm(request)) return hand(request, reply, { body: bytes(request) })
        const form = new URLSearchParams(bytes(request).toString())
        const wait =
          url === routes.revocation ? revocations.take(`${request.ip} ${claimedClient(request, form)}`) : 0
        if (wait > 0) {
          // RFC 7009 §2.2.1: the token still counts, and the client asks again.
          const text = 'too many revocations, ask again later'
          deps.refuse({
            event: 'revocation.refused',
            activity: 'Revocation refused',
            address: request.ip,
            reason: 'temporarily_unavailable',
            detail: text,
          })
          return reply
            .code(503)
            .headers({ 'cache-control': 'no-store', 'retry-after': Math.ceil(wait / 1000) })
            .send({ error: 'temporarily_unavailable', error_description: text })
        }
        const token = form.get('token') ?? ''
        if (form.getAll('token').length !== 1 || token.split('.').length !== 3) {
          return hand(request, reply, { body: bytes(request) })
        }
        const found = await presented(token, { active: url === routes.introspection })
        // One that is none of ours is unknown: both endpoints say nothing more of it (RFC 7009 §2.2, RFC 7662 §2.2).
        form.set('token', found?.jti ?? 'unknown')
        return hand(request, reply, { body: Buffer.from(form.toString()), presented: found })
      })
    }

    app.options(routes.registration, (_request, reply) =>
      reply
        .headers({
          ...registrationHeaders,
          'access-control-allow-methods': 'POST',
          'access-control-allow-headers': 'content-type, mcp-protocol-version',
          'access-control-max-age': '3600',
        })
        .code(204)
        .send(),
    )
    app.post(routes.registration, (request, reply) => {
      const refuse = (status: number, error: string, description: string) => {
        deps.refuse({
          event: 'registration.refused',
          activity: 'Client registration refused',
          category: 'Agents',
          address: request.ip,
          reason: error,
          detail: description,
        })
        return reply.code(status).headers(registrationHeaders).send({ error, error_description: description })
      }
      if (!current().settings.dynamicRegistration) {
        return refuse(
          403,
          'access_denied',
          'this gateway takes registered clients only; ask its administrator for a client id',
        )
      }
      const wait = limit.take(request.ip)
      if (wait > 0) {
        reply.header('retry-after', Math.ceil(wait / 1000))
        return refuse(429, 'temporarily_unavailable', 'too many registrations from this address')
      }
      if (store.clientCount() >= maxClients) {
        log.error({ event: 'registration.full', clients: maxClients }, 'no more clients are registered')
        return refuse(503, 'temporarily_unavailable', 'no more clients can be registered right now')
      }
      try {
        const metadata = registrationMetadata(JSON.parse(bytes(request).toString()))
        for (const [name, value] of Object.entries(registrationHeaders)) reply.raw.setHeader(name, value)
        return hand(request, reply, { body: Buffer.from(JSON.stringify(metadata)) })
      } catch (error) {
        if (error instanceof RegistrationRefused) return refuse(400, error.code, error.message)
        if (error instanceof SyntaxError)
          return refuse(400, 'invalid_client_metadata', 'the body is not JSON')
        throw error
      }
    })
  })
}

const registrationHeaders = { 'cache-control': 'no-store', 'access-control-allow-origin': '*' }

/** Who the client says it is, short; proven or not. */
function claimedClient({ headers }: FastifyRequest, form: URLSearchParams): string {
  const [, basic = ''] = /^Basic ([A-Za-z0-9+/=]{1,2000})$/i.exec(headers.authorization ?? '') ?? []
  const [named = ''] = Buffer.from(basic, 'base64').toString().split(':')
  return (named || form.get('client_id') || '').slice(0, 200)
}

function isForm(request: FastifyRequest): boolean {
  return /^application\/x-www-form-urlencoded\b/i.test(request.headers['content-type'] ?? '')
}

/**
 * The resource in its canonical form, and the resource's scope asked for in any case: a token for the gateway that
 * may do nothing there would be of no use to the agents that ask for other scopes or none (RFC 6749 §3.3).
 */
function authorizationQuery(query: URLSearchParams, resource: string): void {
  setResources(query, resource)
  const scopes = query.getAll('scope')
  if (scopes.length > 1) return
  const wanted = (scopes[0] ?? '').split(' ').filter((scope) => scope !== '')
  if (!wanted.includes(resourceScope)) query.set('scope', [...wanted, resourceScope].join(' '))
}

function setResources(params: URLSearchParams, resource: string): void {
  const given = params.getAll('resource')
  if (given.length === 0) return
  params.delete('resource')
  for (const value of canonicalResources(given, resource)) params.append('resource', value)
}

/** The request again, with another URL or body, as if it came straight to the issuer's origin. */
function replay(raw: IncomingMessage, issuer: string, over: Over): IncomingMessage {
  const { host, protocol } = new URL(issuer)
  const request = new IncomingMessage(raw.socket)
  const { 'transfer-encoding': _chunked, 'content-length': _length, ...headers } = raw.headers
  request.method = raw.method
  request.url = over.url ?? raw.url
  request.httpVersion = raw.httpVersion
  request.headers = {
    ...headers,
    host,
    'x-forwarded-host': host,
    'x-forwarded-proto': protocol.slice(0, -1),
    ...(over.body ? { 'content-length': String(over.body.length) } : {}),
  }
  if (over.body) request.push(over.body)
  request.push(null)
  request.complete = true
  if (over.presented) carry(request, over.presented)
  return request
}
