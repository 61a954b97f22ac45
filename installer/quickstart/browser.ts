/**
 * As much of a browser as a sign-in needs: cookies by host and path, redirects one by one, forms filled in and
 * submitted. No scripts, no styles.
 */
export type Fetch = (url: string | URL, init?: RequestInit) => Promise<Response>

export interface Form {
  readonly method: 'get' | 'post'
  readonly action: URL
  /** Fields with their values, in order; buttons apart. */
  readonly fields: [string, string][]
  readonly inputs: { name: string; type: string }[]
  readonly buttons: { name: string; value: string; text: string }[]
}

export interface Page {
  readonly url: URL
  readonly status: number
  readonly html: string
  readonly forms: readonly Form[]
  readonly title: string
}

export interface Browser {
  /** Follows redirects until a page, or until a redirect to a URL that `stop` accepts: then that URL. */
  open(url: string | URL, stop?: (url: URL) => boolean): Promise<Page | URL>
  submit(
    form: Form,
    values: Record<string, string>,
    button?: string | RegExp,
    stop?: (url: URL) => boolean,
  ): Promise<Page | URL>
}

const maxRedirects = 20
const maxPageBytes = 1024 * 1024

export function createBrowser(fetch: Fetch): Browser {
  const jar = createCookieJar()

  const go = async (start: URL, init: RequestInit, stop: (url: URL) => boolean): Promise<Page | URL> => {
    let url = start
    let next = init
    for (let hop = 0; hop <= maxRedirects; hop++) {
      const headers = new Headers(next.headers)
      headers.set('accept', 'text/html')
      const cookie = jar.header(url)
      if (cookie) headers.set('cookie', cookie)
      const response = await fetch(url, { ...next, headers, redirect: 'manual' })
      jar.store(url, response.headers.getSetCookie())
      const location = response.headers.get('location')
      if (response.status < 300 || response.status > 399 || !location) {
        const html = (await response.text()).slice(0, maxPageBytes)
        return { url, status: response.status, html, forms: parseForms(html, url), title: parseTitle(html) }
      }
      await response.body?.cancel()
      url = new URL(location, url)
      if (stop(url)) return url
      if (response.status !== 307 && response.status !== 308) next = {}
    }
    throw new Error(`more than ${maxRedirects} redirects from ${start.origin}${start.pathname}`)
  }

  return {
    open: (url, stop = () => false) => go(new URL(url), {}, stop),
    submit: (form, values, button, stop = () => false) => {
      const data = new URLSearchParams(form.fields)
      for (const [name, value] of Object.entries(values)) data.set(name, value)
      const pressed =
        button === undefined
          ? form.buttons[0]
          : form.buttons.find(({ text, value }) =>
              typeof button === 'string'
                ? text === button || value === button
                : button.test(text) || button.test(value),
            )
      if (button !== undefined && !pressed) throw new Error(`no button ${button} on ${form.action.pathname}`)
      if (pressed?.name) data.set(pressed.name, pressed.value)
      if (form.method === 'get') {
        const url = new URL(form.action)
        url.search = data.toString()
        return go(url, {}, stop)
      }
      const headers = {
        'content-type': 'application/x-www-form-urlencoded',
        origin: form.action.origin,
      }
      return go(form.action, { method: 'POST', body: data.toString(), headers }, stop)
    },
  }
}

interface Cookie {
  readonly host: string
  readonly path: string
  readonly name: string
  readonly value: string
  readonly secure: boolean
}

function createCookieJar() {
  let cookies: Cookie[] = []
  return {
    store: (url: URL, headers: readonly string[]): void => {
      for (const header of headers) {
        const [pair = '', ...attributes] = header.split(';').map((part) => part.trim())
        const cut = pair.indexOf('=')
        const name = pair.slice(0, cut)
        const attribute = (key: string): string | undefined =>
          attributes.find((item) => item.toLowerCase().startsWith(`${key}=`))?.slice(key.length + 1)
        const path = attribute('path') ?? (url.pathname.replace(/\/[^/]*$/, '') || '/')
        const secure = attributes.some((item) => item.toLowerCase() === 'secure')
        cookies = cookies.filter(
          (item) => !(item.host === url.hostname && item.path === path && item.name === name),
        )
        const expired =
          Number(attribute('max-age') ?? 1) <= 0 ||
          Date.parse(attribute('expires') ?? '9999-01-01') < Date.now()
        if (!expired) cookies.push({ host: url.hostname, path, name, value: pair.slice(cut + 1), secure })
      }
    },
    header: (url: URL): string =>
      cookies
        .filter(
          ({ host, path, secure }) =>
            host === url.hostname &&
            (url.pathname === path || url.pathname.startsWith(path.endsWith('/') ? path : `${path}/`)) &&
            (!secure || url.protocol === 'https:'),
        )
        .sort((a, b) => b.path.length - a.path.length)
        .map(({ name, value }) => `${name}=${value}`)
        .join('; '),
  }
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ' }

export const decodeHtml = (text: string): string =>
  text.replace(/&(#x[0-9a-f]+|#\d+|[a-z]+);/gi, (whole, name: string) => {
    if (name.startsWith('#x') || name.startsWith('#X'))
      return String.fromCodePoint(Number.parseInt(name.slice(2), 16))
    if (name.startsWith('#')) return String.fromCodePoint(Number(name.slice(1)))
    return entities[name.toLowerCase()] ?? whole
  })

const textOf = (html: string): string =>
  decodeHtml(html.replace(/<[^>]*>/g, ' '))
    .replace(/\s+/g, ' ')
    .trim()

const parseTitle = (html: string): string => textOf(/<title[^>]*>([^<]*)/i.exec(html)?.[1] ?? '')

function attributesOf(tag: string): Record<string, string> {
  const found: Record<string, string> = {}
  const pattern = /([a-z_:][-a-z0-9_:.]*)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?/gi
  for (const [, name = '', double, single, bare] of tag.matchAll(pattern)) {
    found[name.toLowerCase()] ??= decodeHtml(double ?? single ?? bare ?? '')
  }
  return found
}

export function parseForms(html: string, base: URL): Form[] {
  return [...html.matchAll(/<form\b([^>]*)>([\s\S]*?)<\/form>/gi)].map(([, head = '', body = '']) => {
    const form = attributesOf(head)
    const fields: [string, string][] = []
    const inputs: Form['inputs'] = []
    const buttons: Form['buttons'] = []
    const controls = /<(?:input\b([^>]*)|(button|select|textarea)\b([^>]*)>([\s\S]*?)<\/\2)>/gi
    for (const [, input, tag = 'input', own = '', inner = ''] of body.matchAll(controls)) {
      const attributes = input ?? own
      const {
        name = '',
        type = tag === 'button' ? 'submit' : 'text',
        value,
        ...flags
      } = attributesOf(attributes)
      if (tag.toLowerCase() === 'button' || type === 'submit') {
        if (type !== 'button')
          buttons.push({ name, value: value ?? '', text: textOf(inner) || (value ?? '') })
      } else if (name) {
        inputs.push({ name, type })
        const unchecked = (type === 'checkbox' || type === 'radio') && !('checked' in flags)
        if (!unchecked) fields.push([name, value ?? (type === 'checkbox' ? 'on' : '')])
      }
    }
    return {
      method: (form.method ?? 'get').toLowerCase() === 'post' ? ('post' as const) : ('get' as const),
      action: new URL(form.action || base.href, base),
      fields,
      inputs,
      buttons,
    }
  })
}
