import { readFileSync } from 'node:fs'
import {
  Client,
  type ClientOptions,
  type OAuthClientProvider,
  type OAuthDiscoveryState,
  type StoredOAuthClientInformation,
  type StoredOAuthTokens,
  StreamableHTTPClientTransport,
  UnauthorizedError,
} from '@modelcontextprotocol/client'
import { Agent, fetch as undiciFetch } from 'undici'
import { type Browser, createBrowser, type Fetch, type Form, type Page } from './browser.ts'

/** A scripted agent and the person in front of it: the official MCP client, and a browser that signs the person in. */
export type Era = 'legacy' | 'modern' | 'auto'

export interface Person {
  readonly email: string
  readonly password: string
  /** The name to sign in with at the notes sample. */
  readonly account: string
}

export interface ScriptedAgent {
  readonly browser: Browser
  readonly fetch: Fetch
  readonly provider: MemoryProvider
  /** A new connection with the tokens there are; goes through registration and sign-in where there are none. */
  connect(options?: ClientOptions): Promise<Client>
  /** The person follows a consent link to its end. */
  followConsent(url: string): Promise<Page>
  close(): Promise<void>
}

/** A fetch that trusts `caPath` alone; the system's authorities without one. */
export function createFetch(caPath: string | null): { fetch: Fetch; close(): Promise<void> } {
  const dispatcher = new Agent(caPath ? { connect: { ca: readFileSync(caPath) } } : {})
  const fetch = ((url: string | URL, init?: object) =>
    undiciFetch(url, { ...init, dispatcher })) as unknown as Fetch
  return { fetch, close: () => dispatcher.destroy() }
}

const redirectUri = 'http://127.0.0.1:33418/callback'

/** Keeps everything in memory, and sends the person's browser through the authorization URL by itself. */
export class MemoryProvider implements OAuthClientProvider {
  readonly redirectUrl = redirectUri
  readonly clientMetadata
  client: StoredOAuthClientInformation | undefined
  stored: StoredOAuthTokens | undefined
  callback: URLSearchParams | undefined
  readonly #authorize: (url: URL) => Promise<URL>
  #discovery: OAuthDiscoveryState | undefined
  #verifier = ''
  #state = ''

  constructor(clientName: string, authorize: (url: URL) => Promise<URL>) {
    this.clientMetadata = {
      client_name: clientName,
      redirect_uris: [redirectUri],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
      application_type: 'native',
    }
    this.#authorize = authorize
  }

  state(): string {
    this.#state = crypto.randomUUID()
    return this.#state
  }
  clientInformation(): StoredOAuthClientInformation | undefined {
    return this.client
  }
  saveClientInformation(client: StoredOAuthClientInformation): void {
    this.client = client
  }
  tokens(): StoredOAuthTokens | undefined {
    return this.stored
  }
  saveTokens(tokens: StoredOAuthTokens): void {
    this.stored = tokens
  }
  saveDiscoveryState(state: OAuthDiscoveryState): void {
    this.#discovery = state
  }
  discoveryState(): OAuthDiscoveryState | undefined {
    return this.#discovery
  }
  saveCodeVerifier(verifier: string): void {
    this.#verifier = verifier
  }
  codeVerifier(): string {
    return this.#verifier
  }
  async redirectToAuthorization(url: URL): Promise<void> {
    const back = await this.#authorize(url)
    if (back.searchParams.get('state') !== this.#state) throw new Error('the callback carries another state')
    this.callback = back.searchParams
  }
}

export const versionNegotiation = (era: Era): NonNullable<ClientOptions['versionNegotiation']> => ({
  mode: era === 'modern' ? { pin: '2026-07-28' } : era,
})

export function createAgent(settings: {
  url: string
  caPath: string | null
  person: Person
  clientName: string
  era?: Era
}): ScriptedAgent {
  const { url, caPath, person, clientName, era = 'auto' } = settings
  const { fetch, close } = createFetch(caPath)
  const browser = createBrowser(fetch)
  const atCallback = (at: URL): boolean => at.origin + at.pathname === redirectUri
  const provider = new MemoryProvider(clientName, async (authorizationUrl) => {
    const end = await walk(browser, await browser.open(authorizationUrl, atCallback), person, atCallback)
    if (end instanceof URL) return end
    throw new Error(`signing in ended on the page "${end.title}" (${end.status}) at ${end.url.pathname}`)
  })
  const clients = new Set<Client>()

  const connect = async (options: ClientOptions = {}): Promise<Client> => {
    for (let round = 0; ; round++) {
      const client = new Client(
        { name: clientName, version: '1.0.0' },
        { versionNegotiation: versionNegotiation(era), ...options },
      )
      const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider, fetch })
      try {
        await client.connect(transport)
        clients.add(client)
        return client
      } catch (error) {
        if (!(error instanceof UnauthorizedError) || !provider.callback || round > 0) throw error
        await transport.finishAuth(provider.callback)
        provider.callback = undefined
        await transport.close()
      }
    }
  }

  return {
    browser,
    fetch,
    provider,
    connect,
    followConsent: async (link) => {
      const end = await walk(browser, await browser.open(link), person)
      if (end instanceof URL) throw new Error(`the consent link led away to ${end.origin}`)
      if (end.status >= 400) throw new Error(`the consent link ended on "${end.title}" (${end.status})`)
      return end
    },
    close: async () => {
      await Promise.allSettled([...clients].map((client) => client.close()))
      await close()
    },
  }
}

const maxPages = 10
const yes = /\b(allow|authori[sz]e|approve|accept|agree|continue|connect|yes)\b/i

/** Fills in each form as it comes, until there is none or `stop` accepts where a redirect leads. */
export async function walk(
  browser: Browser,
  start: Page | URL,
  person: Person,
  stop?: (url: URL) => boolean,
): Promise<Page | URL> {
  let at = start
  const seen = new Set<string>()
  for (let page = 0; page < maxPages; page++) {
    if (at instanceof URL) return at
    const form = at.forms.find((candidate) => candidate.method === 'post')
    if (!form || at.status >= 500) return at
    const values = fill(form, person)
    const step = [
      at.title,
      ...form.inputs.map(({ name }) => name),
      ...form.buttons.map(({ text }) => text),
    ].join()
    if (seen.has(step)) throw new Error(`the page "${at.title}" came back: ${alertOf(at)}`)
    seen.add(step)
    const button = form.buttons.some(({ text, value }) => yes.test(text) || yes.test(value)) ? yes : undefined
    at = await browser.submit(form, values, button, stop)
  }
  throw new Error(`still no end after ${maxPages} pages`)
}

const alertOf = (page: Page): string =>
  /role="alert"[^>]*>([\s\S]*?)<\//i
    .exec(page.html)?.[1]
    ?.replace(/<[^>]*>/g, '')
    .trim() ?? 'it says no reason'

function fill(form: Form, person: Person): Record<string, string> {
  const values: Record<string, string> = {}
  for (const { name, type } of form.inputs) {
    if (type === 'hidden') continue
    if (type === 'password') values[name] = person.password
    else if (name === 'account') values[name] = person.account
    else if (type === 'email' || /user|mail|login|name/i.test(name)) values[name] = person.email
    else if (type === 'checkbox') values[name] = 'on'
  }
  return values
}
