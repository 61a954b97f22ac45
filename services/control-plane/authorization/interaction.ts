import type { FastifyReply, FastifyRequest } from 'fastify'
import { errors, type Provider } from 'oidc-provider'
import type { Refuse } from '../events/refusals.ts'
import type { BrowserBinding } from '../identity/csrf.ts'
import { refuseForm } from '../identity/routes.ts'
import { sendPage } from '../pages/layout.ts'
import { expiredPage } from '../pages/message.ts'
import { redirectDestination } from './clients.ts'
import { grantableScopes } from './prompts.ts'
import type { AuthorizationSettings } from './settings.ts'

export interface InteractionsDeps {
  readonly current: () => { provider: Provider; settings: AuthorizationSettings }
  readonly browser: BrowserBinding
  readonly refuse: Refuse
}

export type Interaction = InstanceType<Provider['Interaction']>
type Form = Record<string, unknown>
export type UidRequest = FastifyRequest<{ Params: { uid: string } }>
/** Shows the page that an interaction stops at. */
export type ShowPage = (
  request: UidRequest,
  reply: FastifyReply,
  details: Interaction,
) => Promise<FastifyReply>
export type Interactions = ReturnType<typeof createInteractions>

/** The authorization request that waits behind a page: found by cookie and path, answered once. */
export function createInteractions({ current, browser, refuse }: InteractionsDeps) {
  /** The interaction of this browser's cookie, where it is the one of the path; else null. */
  const find = async (request: UidRequest, reply: FastifyReply): Promise<Interaction | null> => {
    try {
      const details = await current().provider.interactionDetails(request.raw, reply.raw)
      return details.uid === request.params.uid ? details : null
    } catch (error) {
      if (error instanceof errors.SessionNotFound) return null
      throw error
    }
  }
  const purpose = (uid: string): string => `interaction:${uid}`

  /** A posted form of an interaction: cookie, path and token must agree. Answers itself and null otherwise. */
  const posted = async (
    request: UidRequest,
    reply: FastifyReply,
  ): Promise<{ details: Interaction; form: Form } | null> => {
    const form = (request.body ?? {}) as Form
    if (!browser.check(request, form.csrf, purpose(request.params.uid))) {
      refuseForm(reply)
      return null
    }
    const details = await find(request, reply)
    if (!details) {
      refuse({
        event: 'form.refused',
        activity: 'Form refused',
        address: request.ip,
        reason: 'NoDataFound',
        detail: 'the authorization request is over or of another browser',
      })
      sendPage(reply, 400, expiredPage)
      return null
    }
    return { details, form }
  }

  const finish = async (
    request: UidRequest,
    reply: FastifyReply,
    result: Record<string, unknown>,
  ): Promise<FastifyReply> =>
    reply.redirect(await current().provider.interactionResult(request.raw, reply.raw, result), 303)

  const clientOf = async (details: Interaction) => {
    const clientId = String(details.params.client_id)
    const redirectUri = String(details.params.redirect_uri)
    const client = await current().provider.Client.find(clientId)
    return {
      clientId,
      redirectUri,
      name: client?.clientName ?? redirectDestination(redirectUri),
      verified: current().settings.clients.some((known) => known.clientId === clientId),
      scopes: grantableScopes(current().settings, String(details.params.scope ?? '').split(' ')),
    }
  }

  /** Where the forms of a page are sent to, and what makes them ours. */
  const form = (request: UidRequest, reply: FastifyReply, { uid }: Interaction) => ({
    action: `/interaction/${encodeURIComponent(uid)}`,
    csrf: browser.token(request, reply, purpose(uid)),
  })

  return { find, posted, finish, form, clientOf }
}
