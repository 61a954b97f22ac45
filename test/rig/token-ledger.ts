import type { IncomingMessage, Server } from 'node:http'
import type Provider from 'oidc-provider'

/** An access token that an authorization server gave. Times in milliseconds since the epoch. */
export interface IssuedToken {
  readonly account: string
  readonly accessToken: string
  readonly issuedAt: number
  readonly endsAt: number
  /** When each use of the refresh token that came with it arrived, the refused ones as well. */
  readonly renewals: number[]
}

/** What an oidc-provider gave, token by token, so that a test can say of each how often and when it was renewed. */
export class TokenLedger {
  readonly #tokens: IssuedToken[] = []
  readonly #byRefreshToken = new Map<string, IssuedToken>()
  readonly #arrived = new WeakMap<IncomingMessage, number>()

  constructor(provider: Provider, server: Server, now: () => number) {
    server.prependListener('request', (request) => this.#arrived.set(request, now()))
    provider.on('grant.success', (ctx) => {
      const { access_token, refresh_token, expires_in } = ctx.body as Record<string, unknown>
      this.#renewed(ctx.oidc.params?.refresh_token, ctx.req)
      const { Account: account } = ctx.oidc.entities
      if (typeof access_token !== 'string' || !account) return
      const issuedAt = now()
      const endsAt = issuedAt + Number(expires_in) * 1000
      const token = { account: account.accountId, accessToken: access_token, issuedAt, endsAt, renewals: [] }
      this.#tokens.push(token)
      if (typeof refresh_token === 'string') this.#byRefreshToken.set(refresh_token, token)
    })
    provider.on('grant.error', (ctx) => this.#renewed(ctx.oidc.params?.refresh_token, ctx.req))
  }

  #renewed(refreshToken: unknown, request: IncomingMessage): void {
    const token = this.#byRefreshToken.get(String(refreshToken))
    token?.renewals.push(this.#arrived.get(request) ?? Number.NaN)
  }

  /** Of one account, oldest first. */
  of(account: string): readonly IssuedToken[] {
    return this.#tokens.filter((token) => token.account === account)
  }
}
