import type { FastifyInstance } from 'fastify'
import type { Provider } from 'oidc-provider'
import type { Logger } from '../../../shared/log.ts'
import type { RevocationMatch } from '../../../shared/revocations.ts'
import type { AuditLog } from '../events/audit.ts'
import type { BrowserSessions } from '../identity/browser-session.ts'
import type { BrowserBinding } from '../identity/csrf.ts'
import { refuseForm } from '../identity/routes.ts'
import { agentsPage } from '../pages/agents.ts'
import { sendPage } from '../pages/layout.ts'
import { redirectDestination } from './clients.ts'
import type { Grants } from './grants.ts'

export interface AgentsDeps {
  readonly current: () => { provider: Provider }
  readonly grants: Grants
  readonly sessions: BrowserSessions
  readonly browser: BrowserBinding
  readonly audit: Pick<AuditLog, 'add'>
  readonly revoke: (match: RevocationMatch) => Promise<void>
  readonly log: Logger
}

const purpose = 'agents'

/** `/agents`: a person sees which agents they allowed, and withdraws that: refresh tokens and access tokens end. */
export function registerAgents(app: FastifyInstance, deps: AgentsDeps): void {
  const { current, grants, sessions, browser, revoke, audit, log } = deps

  app.get('/agents', async (request, reply) => {
    const user = await sessions.requireUser(request, reply, '/agents')
    if (!user) return reply
    const agents = await Promise.all(
      grants.list(user.subject).map(async ({ clientId, redirect, scopes, grantedAt }) => {
        const client = await current()
          .provider.Client.find(clientId)
          .catch(() => undefined)
        const destination = redirectDestination(redirect)
        return { clientId, name: client?.clientName ?? destination, destination, scopes, grantedAt }
      }),
    )
    const csrf = browser.token(request, reply, purpose)
    return sendPage(reply, 200, agentsPage(user.email ?? user.subject, agents, csrf))
  })

  app.post('/agents/withdraw', async (request, reply) => {
    const form = (request.body ?? {}) as Record<string, unknown>
    if (!browser.check(request, form.csrf, purpose)) {
      refuseForm(reply)
      return reply
    }
    const user = await sessions.requireUser(request, reply, '/agents')
    if (!user) return reply
    const clientId = String(form.client_id ?? '')
    if (grants.withdraw(user.subject, clientId)) {
      await revoke({ subject: user.subject, clientId })
      log.info({ event: 'consent.withdrawn', subject: user.subject, clientId }, 'consent withdrawn')
      audit.add({
        category: 'Agents',
        activity: 'Consent withdrawn',
        actor: { type: 'User', displayName: user.subject },
        target: `client ${clientId}`,
        outcome: 'Success',
        severity: 'Info',
        client: { ip: request.ip },
      })
    }
    return reply.redirect('/agents', 303)
  })
}
