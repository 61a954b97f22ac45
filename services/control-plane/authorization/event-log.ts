import type { errors, KoaContextWithOIDC, Provider } from 'oidc-provider'
import type { Logger } from '../../../shared/log.ts'
import type { AuditLog } from '../events/audit.ts'
import type { Refusal, Refuse } from '../events/refusals.ts'
import { PolicyRefused, TrustRefused } from './refused.ts'

export interface EventLogDeps {
  readonly log: Logger
  readonly refuse: Refuse
  readonly audit: Pick<AuditLog, 'add'>
}

/** Answers to a client that asks without a page whether one is needed: nobody was refused. */
const notYet = new Set(['login_required', 'consent_required', 'interaction_required'])

/** What happened, without a token, code or cookie in it. */
export function logEvents(provider: Provider, { log, refuse, audit }: EventLogDeps): void {
  const about = (ctx: KoaContextWithOIDC) => {
    const { client, account, session, entities, params } = ctx.oidc ?? {}
    const token = entities?.RefreshToken ?? entities?.AuthorizationCode
    const named = params?.client_id
    return {
      // What a client says it is, where it proved nothing yet.
      clientId: client?.clientId ?? (typeof named === 'string' ? named.slice(0, 200) : undefined),
      subject: account?.accountId ?? session?.accountId ?? token?.accountId,
    }
  }
  const refused =
    (what: Pick<Refusal, 'event' | 'activity' | 'eventType' | 'category'>) =>
    (ctx: KoaContextWithOIDC, error: errors.OIDCProviderError): void => {
      // Recorded where the person or the policy said no.
      if (
        what.event === 'authorization.refused' &&
        (ctx.oidc?.result?.error || error.error === 'access_denied')
      )
        return
      if (notYet.has(error.error)) {
        log.info({ event: what.event, ...about(ctx), reason: error.error }, 'nobody is signed in')
        return
      }
      const verdict = error instanceof PolicyRefused ? error.verdict : undefined
      const redirectUri = ctx.oidc?.params?.redirect_uri
      refuse({
        ...what,
        ...about(ctx),
        address: ctx.ip,
        reason: error instanceof TrustRefused ? error.reason : error.error,
        detail: [
          error.error_description,
          error instanceof TrustRefused ? error.trustDetail : error.error_detail,
          verdict?.reason,
        ]
          .filter((text) => text !== undefined && text !== '')
          .join('; '),
        redirectUri: typeof redirectUri === 'string' ? redirectUri.slice(0, 2048) : undefined,
        clientWorkload: verdict?.workload,
        decision: verdict?.decision,
      })
    }
  provider.on(
    'authorization.error',
    refused({
      event: 'authorization.refused',
      activity: 'Authorization request refused',
      eventType: 'access.request',
    }),
  )
  provider.on(
    'grant.error',
    refused({ event: 'token.refused', activity: 'Token refused', eventType: 'access.authorization' }),
  )
  provider.on(
    'registration_create.error',
    refused({ event: 'registration.refused', activity: 'Client registration refused', category: 'Agents' }),
  )
  provider.on('revocation.error', refused({ event: 'revocation.refused', activity: 'Revocation refused' }))
  provider.on(
    'introspection.error',
    refused({ event: 'introspection.refused', activity: 'Introspection refused' }),
  )
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
  provider.on('registration_create.success', (ctx, client) => {
    const { clientId, clientName, redirectUris } = client
    log.info({ event: 'client.registered', clientId, clientName, redirectUris }, 'client registered itself')
    audit.add({
      category: 'Agents',
      activity: 'Client registered itself',
      actor: { type: 'System', displayName: clientName ?? clientId },
      target: `client ${clientId}`,
      outcome: 'Success',
      severity: 'Info',
      client: { ip: ctx.ip },
      detail: { redirectUris: redirectUris ?? [] },
    })
  })
}
