import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import { unionOf } from '../../../shared/www-authenticate.ts'
import type { CredentialChanges } from '../fleet/credential-changes.ts'
import type { User } from '../identity/types.ts'
import type { ConnectStates } from './connect-states.ts'
import type { Discovered } from './discovery.ts'
import { type Grant, locate, outboundOf, type Target, userGrant } from './grants.ts'
import type { Networks } from './networks.ts'
import { exchangeCode, revoke, startAuthorization } from './oauth.ts'
import type { OAuthClients } from './oauth-clients.ts'
import type { Outbound } from './outbound.ts'
import type { CredentialKey, StoredCredential, Vault } from './vault.ts'

export interface Connections {
  /** What connecting will ask for; `scope` on top of what the server wants. Throws a Fault where discovery fails. */
  preview(target: Target, scope?: string): Promise<Discovered>
  /** Where to send the browser. Throws a Fault. */
  begin(user: User, target: Target, browser: string, scope?: string): Promise<URL>
  /** For renewing the tokens of such a connection. */
  grantOf(target: Target): Grant
  /**
   * What came back. Throws `Misdirected` where the browser or the person is not the one that left, and then nothing
   * was exchanged; GrantEnded for the server's no; Fault otherwise.
   */
  finish(ask: FinishAsk): Promise<{ serverId: string }>
  /** Forgets the tokens, at once and whatever happens, then asks the upstream to. Answers whether that worked too. */
  disconnect(key: CredentialKey, target: Target | undefined): Promise<'revoked' | 'forgotten'>
  list(user: User): Listed[]
}

/** What is stored of a connection. */
export interface Listed extends StoredCredential {
  /** There is a refresh token. */
  readonly renews: boolean
}

export interface FinishAsk {
  readonly user: User | null
  readonly browser: string | undefined
  readonly providerId: string
  readonly query: URLSearchParams
  readonly target: (serverId: string, providerId: string) => Target | undefined
}

/** An answer that is not for this browser or person, or was given before. */
export class Misdirected extends Error {
  readonly reason: 'unknown' | 'browser' | 'user'

  constructor(reason: Misdirected['reason']) {
    super(`authorization answer refused: ${reason}`)
    this.name = 'Misdirected'
    this.reason = reason
  }
}

export interface ConnectionsDeps {
  readonly vault: Vault
  readonly states: ConnectStates
  readonly clients: OAuthClients
  readonly networks: Networks
  readonly changes: CredentialChanges
  /** Origin that the browser knows us by. */
  readonly origin: () => string
  readonly clock: Clock
  readonly log: Logger
}

const rediscoverMs = 60_000

/** People's connections to servers: made with their consent in a browser, undone by them. */
export function createConnections(deps: ConnectionsDeps): Connections {
  const { vault, states, clients, networks, changes, origin, clock, log } = deps
  const discoveries = new LRUCache<string, { at: number; found: Promise<Discovered> }>({ max: 200 })

  const discovered = (target: Target, maxAgeMs = rediscoverMs): Promise<Discovered> => {
    const { server, provider } = target
    const key = JSON.stringify([server.url, server.allowedNetworks, provider])
    const known = discoveries.get(key)
    if (known && clock.now() - known.at < maxAgeMs) return known.found
    const entry = { at: clock.now(), found: locate(networks, target) }
    discoveries.set(key, entry)
    entry.found.catch(() => {
      if (discoveries.get(key) === entry) discoveries.delete(key)
    })
    return entry.found
  }

  /** Scopes that an administrator wrote down are all there are. */
  const wanted = async (target: Target, scope?: string, maxAgeMs?: number): Promise<Discovered> => {
    const found = await discovered(target, maxAgeMs)
    return target.provider.scopes ? found : { ...found, scope: unionOf(found.scope, scope) }
  }

  /** A row that does not open renews nothing, and is still there to be seen. */
  const renews = (stored: StoredCredential): boolean => {
    try {
      return vault.open(stored).refreshToken !== null
    } catch (error) {
      log.error({ ...about(stored), err: error }, 'a stored credential does not open')
      return false
    }
  }

  const outboundFor = (url: string, target: Target): Outbound => outboundOf(networks, target, url)
  const about = ({ subject, serverId, providerId }: CredentialKey) => ({ subject, serverId, providerId })

  return {
    // A person came back since the server refused a token: it may name another authorization server by now.
    preview: (target, scope) => wanted(target, scope, 0),
    grantOf: (target) => userGrant(target, { networks, clients, preview: (asked) => discovered(asked) }),
    begin: async (user, target, browser, scope) => {
      const { server, provider } = target
      const found = await wanted(target, scope)
      const redirectUri = callbackUrl(origin(), provider.id)
      const outbound = outboundFor(found.server.token_endpoint, target)
      const registrar = outboundFor(found.server.registration_endpoint ?? found.server.token_endpoint, target)
      const client = await clients.obtain(provider, found.server, redirectUri, registrar)
      const { url, state, verifier } = await startAuthorization(found, client, redirectUri, outbound, {
        pkce: provider.isPkceRequired,
        parameters: Object.fromEntries(provider.customParameters.map(({ key, value }) => [key, value])),
      })
      states.put(state, {
        issuer: user.issuer,
        subject: user.subject,
        serverId: server.id,
        providerId: provider.id,
        browser,
        verifier,
        clientId: client.clientId,
        resource: found.resource,
        issuerKnown: found.issuerKnown,
        scope: found.scope ?? null,
        redirectUri,
        server: found.server,
      })
      return url
    },

    finish: async ({ user, browser, providerId, query, target: targetOf }) => {
      const state = states.take(query.get('state'))
      if (!state || state.providerId !== providerId) throw new Misdirected('unknown')
      if (browser !== state.browser) throw new Misdirected('browser')
      if (user?.subject !== state.subject || user.issuer !== state.issuer) throw new Misdirected('user')
      const target = targetOf(state.serverId, providerId)
      if (!target)
        throw new Fault('policy.denied', { detail: 'the server left this person’s reach meanwhile' })
      const client = clients.known(target.provider, state.server, state.clientId)
      if (!client) throw new Fault('upstream.rejected', { detail: 'the client registration is gone' })

      const callback = new URL(state.redirectUri)
      callback.search = query.toString()
      const tokens = await exchangeCode(
        state.server,
        client,
        callback,
        {
          state: query.get('state') ?? '',
          verifier: state.verifier,
          resource: state.resource,
          issuerKnown: state.issuerKnown,
        },
        outboundFor(state.server.token_endpoint, target),
      )
      vault.connect(
        state,
        {
          tokens: {
            accessToken: tokens.accessToken,
            refreshToken: tokens.refreshToken,
            clientId: client.clientId,
            resource: state.resource,
            server: state.server,
          },
          scopes: tokens.scope ?? state.scope ?? '',
          expiresAt: tokens.expiresIn === null ? null : clock.now() + tokens.expiresIn * 1000,
        },
        tokens.account,
        state.scope ?? '',
      )
      log.info(about(state), 'account connected')
      changes.publish({ issuer: state.issuer, subject: state.subject, serverId: state.serverId })
      return { serverId: state.serverId }
    },

    disconnect: async (key, target) => {
      if (!vault.find(key)) return 'forgotten'
      const tokens = vault.open(key)
      vault.remove(key)
      changes.publish({ issuer: key.issuer, subject: key.subject, serverId: key.serverId })
      log.info(about(key), 'account disconnected')
      const client = target && clients.known(target.provider, tokens.server, tokens.clientId)
      if (!target || !client || tokens.server.revocation_endpoint === undefined) return 'forgotten'
      const outbound = outboundFor(tokens.server.revocation_endpoint, target)
      const given = [
        ...(tokens.refreshToken === null ? [] : [[tokens.refreshToken, 'refresh_token'] as const]),
        [tokens.accessToken, 'access_token'] as const,
      ]
      const results = await Promise.allSettled(
        given.map(([token, hint]) => revoke(tokens.server, client, token, hint, outbound)),
      )
      // Revoking a refresh token ends its access tokens at most servers (RFC 7009 §2.1): that one counts.
      const [first] = results
      if (first?.status === 'fulfilled' && first.value) return 'revoked'
      const reason: unknown = first?.status === 'rejected' ? first.reason : undefined
      log.warn(
        { ...about(key), reason: reason instanceof Error ? reason.message : 'none' },
        'not revoked upstream',
      )
      return 'forgotten'
    },

    list: (user) =>
      vault.list(user.issuer, user.subject).map((stored) => ({ ...stored, renews: renews(stored) })),
  }
}

export function callbackUrl(origin: string, providerId: string): string {
  return `${origin}/mcp-auth/userauth/${encodeURIComponent(providerId)}/callback`
}
