import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Provider } from 'oidc-provider'
import type { Accounts } from './accounts.ts'
import type { CookieJar } from './cookies.ts'
import type { User } from './types.ts'

export type { User } from './types.ts'

/** Cookie of the one browser session, without its prefix. oidc-provider is configured with the same name. */
export const sessionCookie = 'session'
/** A session ends this long after its last visit to the authorization server, seconds. */
export const sessionTtlSecs = 12 * 3600

export interface BrowserSessions {
  /** Who is signed in at this browser, or null. */
  current(request: FastifyRequest): Promise<User | null>
  /** The signed-in person; else sends the browser to sign in and then back to `returnTo`, and answers null. */
  requireUser(request: FastifyRequest, reply: FastifyReply, returnTo: string): Promise<User | null>
  /** Starts a new session under a new id, whatever id the browser came with; ends one of another person. */
  signIn(request: FastifyRequest, reply: FastifyReply, subject: string): Promise<void>
  signOut(request: FastifyRequest, reply: FastifyReply): Promise<void>
  /** Ends this browser's session where it is not `subject`'s. */
  dropOther(request: FastifyRequest, subject: string): Promise<void>
}

export interface BrowserSessionDeps {
  /** The running authorization server: a reload replaces it. */
  readonly provider: () => Provider
  readonly accounts: Accounts
  readonly cookies: CookieJar
  readonly issuer: string
}

/** oidc-provider's session is the only one there is: signing in for an agent and for a page of ours is the same. */
export function createBrowserSessions({
  provider,
  accounts,
  cookies,
  issuer,
}: BrowserSessionDeps): BrowserSessions {
  const load = async (request: FastifyRequest) => {
    const id = cookies.read(request, sessionCookie)
    return id === undefined ? undefined : provider().Session.find(id)
  }
  const current = async (request: FastifyRequest): Promise<User | null> => {
    const subject = (await load(request))?.accountId
    const identity = subject === undefined ? undefined : accounts.find(subject)
    if (!identity) return null
    const { idp, email, name, groups } = identity
    return {
      issuer,
      subject: identity.subject,
      idp,
      ...(email === undefined ? {} : { email }),
      ...(name === undefined ? {} : { name }),
      groups: [...groups],
    }
  }
  return {
    current,
    requireUser: async (request, reply, returnTo) => {
      const user = await current(request)
      if (!user) await reply.redirect(`/sign-in?return_to=${encodeURIComponent(returnTo)}`, 303)
      return user
    },
    signIn: async (request, reply, subject) => {
      await (await load(request))?.destroy()
      const { Session } = provider()
      const session = new Session()
      session.loginAccount({ accountId: subject })
      await session.save(sessionTtlSecs)
      cookies.write(reply, sessionCookie, session.jti, sessionTtlSecs)
    },
    signOut: async (request, reply) => {
      await (await load(request))?.destroy()
      cookies.clear(reply, sessionCookie)
    },
    dropOther: async (request, subject) => {
      const session = await load(request)
      if (session?.accountId !== undefined && session.accountId !== subject) await session.destroy()
    },
  }
}
