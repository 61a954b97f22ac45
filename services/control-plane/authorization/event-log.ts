import type { errors, KoaContextWithOIDC, Provider } from 'oidc-provider'
import type { Logger } from '../../../shared/log.ts'

/** What happened, without a token, code or cookie in it. */
export function logEvents(provider: Provider, log: Logger): void {
  const about = (ctx: KoaContextWithOIDC) => ({
    clientId: ctx.oidc?.client?.clientId,
    subject: ctx.oidc?.account?.accountId ?? ctx.oidc?.session?.accountId,
  })
  const refused = (what: string) => (ctx: KoaContextWithOIDC, error: errors.OIDCProviderError) =>
    log.warn(
      {
        event: `${what}.refused`,
        ...about(ctx),
        error: error.error,
        description: error.error_description,
        detail: error.error_detail,
      },
      `${what} refused`,
    )
  provider.on('authorization.error', refused('authorization'))
  provider.on('grant.error', refused('token'))
  provider.on('registration_create.error', refused('registration'))
  provider.on('revocation.error', refused('revocation'))
  provider.on('server_error', (ctx, err) =>
    log.error({ event: 'server_error', ...about(ctx), err }, 'authorization server failed'),
  )
  // Without a listener Koa would print the error itself.
  const koa: NodeJS.EventEmitter = provider
  koa.on('error', (err: Error) => log.error({ err }, 'authorization server failed'))
  provider.on('authorization.success', (ctx) =>
    log.info({ event: 'authorization.granted', ...about(ctx) }, 'authorization granted'),
  )
  provider.on('grant.success', (ctx) =>
    log.info(
      { event: 'token.issued', ...about(ctx), grantType: ctx.oidc.params?.grant_type },
      'token issued',
    ),
  )
  provider.on('grant.revoked', (ctx, grantId) =>
    log.info({ event: 'grant.revoked', ...about(ctx), grantId }, 'grant revoked'),
  )
  provider.on('registration_create.success', (_ctx, client) =>
    log.info(
      {
        event: 'client.registered',
        clientId: client.clientId,
        clientName: client.clientName,
        redirectUris: client.redirectUris,
      },
      'client registered itself',
    ),
  )
}
