/** A browser as far as sign-in needs one: cookies of one site, forms, and redirects that are looked at one by one. */
export interface Answer {
  readonly status: number
  readonly url: string
  readonly location: string | null
  readonly headers: Headers
  readonly text: string
}

export interface Form {
  readonly action: string
  readonly fields: Record<string, string>
}

export class Browser {
  readonly jars = new Map<string, Map<string, { value: string; path: string }>>()

  async get(url: string, headers: Record<string, string> = {}): Promise<Answer> {
    return this.#send(url, { method: 'GET', headers })
  }

  async post(
    url: string,
    fields: Record<string, string>,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    return this.#send(url, {
      method: 'POST',
      body: new URLSearchParams(fields).toString(),
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    })
  }

  /** Follows redirects until an answer is none, or leads to a URL that starts with `until`. */
  async follow(answer: Answer, until = '\u0000'): Promise<Answer> {
    let at = answer
    for (let hop = 0; hop < 15 && at.location !== null && !at.location.startsWith(until); hop++) {
      at = await this.get(at.location)
    }
    return at
  }

  /** Posts the form of `answer` whose action ends in `suffix`, with `fields` added to its hidden ones. */
  async submit(answer: Answer, suffix: string, fields: Record<string, string> = {}): Promise<Answer> {
    const form = forms(answer.text).find(({ action }) => action.split('?')[0]!.endsWith(suffix))
    if (!form) throw new Error(`no form ${suffix} in: ${answer.status} ${answer.text.slice(0, 2000)}`)
    return this.post(new URL(form.action, answer.url).href, { ...form.fields, ...fields })
  }

  cookie(url: string, name: string): string | undefined {
    return this.#jar(url).get(name)?.value
  }

  #jar(url: string): Map<string, { value: string; path: string }> {
    const { host } = new URL(url)
    let jar = this.jars.get(host)
    if (!jar) {
      jar = new Map()
      this.jars.set(host, jar)
    }
    return jar
  }

  async #send(url: string, init: RequestInit & { headers: Record<string, string> }): Promise<Answer> {
    const { pathname } = new URL(url)
    const jar = this.#jar(url)
    const cookie = [...jar]
      .filter(([, { path }]) => pathname === path || path === '/' || pathname.startsWith(`${path}/`))
      .map(([key, { value }]) => `${key.split('|')[0]}=${value}`)
      .join('; ')
    const response = await fetch(url, {
      ...init,
      redirect: 'manual',
      headers: { accept: 'text/html', ...init.headers, ...(cookie === '' ? {} : { cookie }) },
    })
    for (const line of response.headers.getSetCookie()) {
      const [pair = '', ...attributes] = line.split(';').map((part) => part.trim())
      const name = pair.slice(0, pair.indexOf('='))
      const value = pair.slice(pair.indexOf('=') + 1)
      const path = attributes.find((part) => /^path=/i.test(part))?.slice(5) ?? '/'
      const key = path === '/' ? name : `${name}|${path}`
      const dead = attributes.some(
        (part) => /^max-age=0$/i.test(part) || /expires=Thu, 01 Jan 1970/i.test(part),
      )
      if (dead) jar.delete(key)
      else jar.set(key, { value, path })
    }
    const location = response.headers.get('location')
    return {
      status: response.status,
      url,
      location: location === null ? null : new URL(location, url).href,
      headers: response.headers,
      text: await response.text(),
    }
  }
}

export function forms(text: string): Form[] {
  return [...text.matchAll(/<form[^>]*action="([^"]*)"[^>]*>([\s\S]*?)<\/form>/g)].map(
    ([, action = '', inner = '']) => ({
      action: decode(action),
      fields: Object.fromEntries(
        [...inner.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g)].map(
          ([, name = '', value = '']) => [name, decode(value)],
        ),
      ),
    }),
  )
}

function decode(text: string): string {
  return text
    .replace(/&quot;/g, '"')
    .replace(/&#39;/g, "'")
    .replace(/&lt;/g, '<')
    .replace(/&gt;/g, '>')
    .replace(/&amp;/g, '&')
}
