import type { FastifyInstance } from 'fastify'
import type { SharedAdministration } from '../credentials/shared-routes.ts'
import { answer } from './answers.ts'

type Route = { Params: { id: string } }
const unknown = 'There is no credential provider of type oauth-authorization-code with this id.'

/** Accounts that an administrator authorizes for everyone: a link to do so, how it stands, taking it back. */
export function registerCredentialProviders(
  app: FastifyInstance,
  shared: () => SharedAdministration | undefined,
): void {
  app.post('/shared-accounts-link', async (_request, reply) => {
    const url = shared()?.pageLink()
    return url === undefined ? reply.code(503).send() : reply.code(201).send({ url })
  })
  app.post<Route>('/credential-providers/:id/authorize', async (request, reply) => {
    const made = shared()?.authorize(request.params.id)
    return made ? reply.code(201).send(made) : answer(request, reply, 404, unknown)
  })
  app.get<Route>('/credential-providers/:id/verification', async (request, reply) => {
    return shared()?.verification(request.params.id) ?? answer(request, reply, 404, unknown)
  })
  app.post<Route>('/credential-providers/:id/discover', async (request, reply) => {
    const found = await shared()?.discover(request.params.id)
    if (!found) {
      const text =
        'There is no credential provider of type mcp-enterprise-managed-access-token with this id that a policy joins to a server.'
      return answer(request, reply, 404, text)
    }
    return 'problem' in found ? answer(request, reply, 422, found.problem) : found
  })
  app.delete<Route>('/credential-providers/:id/authorize', async (request, reply) => {
    const state = await shared()?.revoke(request.params.id)
    return state ? { state } : answer(request, reply, 404, unknown)
  })
}
