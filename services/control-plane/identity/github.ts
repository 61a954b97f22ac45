import { randomBytes } from 'node:crypto'
import * as client from 'openid-client'
import { z } from 'zod'
import type { OAuth2Config } from '../config/schema.ts'
import { keepClaims } from './claims.ts'
import { normalizeEmail } from './directory.ts'
import { createGuardedFetch, type GuardedFetch } from './guarded-fetch.ts'
import { type ExternalProvider, type Identity, type RefusalReason, SignInRefused } from './types.ts'

const tokenSchema = z.object({ access_token: z.string().min(1).max(1000), token_type: z.string() })
const userSchema = z.object({
  id: z.number().int(),
  login: z.string().min(1).max(100),
  name: z.string().max(255).nullish(),
})
const emailsSchema = z
  .array(z.object({ email: z.string().max(254), primary: z.boolean(), verified: z.boolean() }))
  .max(1000)
const membershipsSchema = z.array(z.object({ organization: z.object({ login: z.string() }) })).max(100)
const teamsSchema = z
  .array(z.object({ slug: z.string(), organization: z.object({ login: z.string() }) }))
  .max(100)

/** Pages of 100 that are read at most: more teams than that are told as a problem. */
const maxPages = 5

/**
 * GitHub speaks OAuth 2.0 and no OpenID Connect: there is no ID token, so who somebody is comes from its API, asked
 * over TLS with a token that was issued to us for a code bound to this browser (state) and this sign-in (PKCE). The
 * token is used for these questions and kept nowhere.
 */
export function createGithubProvider(
  config: OAuth2Config,
  makeFetch: (allowed: readonly string[]) => GuardedFetch = createGuardedFetch,
): ExternalProvider {
  const guarded = makeFetch(config.allowedNetworks)
  const { origin } = new URL(config.baseUrl)
  const api = origin === 'https://github.com' ? 'https://api.github.com' : `${origin}/api/v3`
  const refused = (detail: string, reason: RefusalReason, cause?: unknown): SignInRefused =>
    new SignInRefused(`The answer of "${config.name}" could not be verified.`, detail, { reason, cause })

  const ask = async <T>(schema: z.ZodType<T>, url: string, init: Record<string, unknown>): Promise<T> => {
    const response = await guarded(url, init).catch((error: unknown) => {
      throw new SignInRefused(
        `"${config.name}" can not be reached right now. Try again in a minute.`,
        error instanceof Error ? error.message : String(error),
        { reason: 'NoDataFound', cause: error },
      )
    })
    const { pathname } = new URL(url)
    if (response.status !== 200) {
      await response.body?.cancel()
      throw refused(`${pathname} answered ${response.status}`, 'NoDataFound')
    }
    const parsed = schema.safeParse(await response.json().catch(() => undefined))
    if (!parsed.success) throw refused(`${pathname} answered something else than expected`, 'NoDataFound')
    return parsed.data
  }
  const get = <T>(schema: z.ZodType<T>, token: string, path: string): Promise<T> =>
    ask(schema, `${api}${path}`, {
      headers: {
        accept: 'application/vnd.github+json',
        authorization: `Bearer ${token}`,
        'user-agent': 'mcp-identity-gateway',
        'x-github-api-version': '2022-11-28',
      },
    })
  const all = async <T>(schema: z.ZodType<T[]>, token: string, path: string): Promise<T[]> => {
    const found: T[] = []
    for (let page = 1; page <= maxPages; page++) {
      const part = await get(schema, token, `${path}per_page=100&page=${page}`)
      found.push(...part)
      if (part.length < 100) return found
    }
    throw refused(`${path} has more than ${maxPages * 100} entries`, 'ConditionFailed')
  }

  const identityOf = async (token: string): Promise<Identity> => {
    const user = await get(userSchema, token, '/user')
    const emails = await get(emailsSchema, token, '/user/emails?per_page=100')
    const email = emails.find(({ primary, verified }) => primary && verified)?.email
    if (config.subjectClaim === 'email' && email === undefined) {
      throw new SignInRefused(
        `"${config.name}" has not verified your primary email address.`,
        'no address is primary and verified',
        { reason: 'MatchRuleFailed' },
      )
    }
    const memberships = await all(membershipsSchema, token, '/user/memberships/orgs?state=active&')
    const organizations = memberships.map(({ organization }) => organization.login)
    const folded = new Set(organizations.map((login) => login.toLowerCase()))
    const wanted = config.organizations.map((login) => login.toLowerCase())
    if (wanted.length > 0 && !wanted.some((login) => folded.has(login))) {
      throw new SignInRefused(
        `Your account at "${config.name}" is in none of the organizations that are let in here.`,
        'member of none of organizations; an organization may also have to approve the OAuth application',
        { reason: 'MatchRuleFailed' },
      )
    }
    const within = (login: string): boolean => wanted.length === 0 || wanted.includes(login.toLowerCase())
    const teams = await all(teamsSchema, token, '/user/teams?')
    const groups = [
      ...organizations.filter(within),
      ...teams
        .filter(({ organization }) => within(organization.login))
        .map(({ slug, organization }) => `${organization.login}/${slug}`),
    ]
    if (groups.length > 200) {
      throw refused(
        'more than 200 organizations and teams: name those that matter in "organizations"',
        'ConditionFailed',
      )
    }
    const subject = {
      email: normalizeEmail(email ?? ''),
      login: user.login.toLowerCase(),
      id: String(user.id),
    }[config.subjectClaim]
    return {
      idp: config.id,
      idpSubject: String(user.id),
      subject,
      ...(email === undefined ? {} : { email: normalizeEmail(email) }),
      name: user.name ?? user.login,
      groups,
      claims: keepClaims({ login: user.login, github_id: user.id, organizations }),
    }
  }

  return {
    id: config.id,
    begin: async (redirectUri, loginHint) => {
      const check = {
        state: randomBytes(32).toString('base64url'),
        verifier: client.randomPKCECodeVerifier(),
        redirectUri,
      }
      const url = new URL('/login/oauth/authorize', origin)
      url.search = new URLSearchParams({
        client_id: config.clientId,
        redirect_uri: redirectUri,
        scope: 'read:user user:email read:org',
        state: check.state,
        code_challenge: await client.calculatePKCECodeChallenge(check.verifier),
        code_challenge_method: 'S256',
        allow_signup: 'false',
        ...(loginHint ? { login: loginHint } : {}),
      }).toString()
      return { url, check }
    },
    finish: async (callback, { verifier = '', redirectUri = '' }) => {
      const codes = callback.searchParams.getAll('code')
      const [code] = codes
      if (callback.searchParams.has('error') || code === undefined || codes.length > 1) {
        throw new SignInRefused(`"${config.name}" did not sign you in.`, 'there is no code', {
          reason: 'NoDataFound',
        })
      }
      // An error of this endpoint comes with status 200, and without a token.
      const { access_token: token } = await ask(tokenSchema, `${origin}/login/oauth/access_token`, {
        method: 'POST',
        headers: { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({
          client_id: config.clientId,
          client_secret: config.clientSecret.reveal(),
          code,
          redirect_uri: redirectUri,
          code_verifier: verifier,
        }).toString(),
      })
      return identityOf(token)
    },
    close: () => guarded.close(),
  }
}
