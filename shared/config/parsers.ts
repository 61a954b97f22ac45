import { isAbsolute } from 'node:path'
import type { Parse } from './env.ts'

/** What the variables of an env table hold. Each parser throws an Error that says what it expected. */

export const text: Parse<string> = (raw) => raw

export const integer =
  ({ min = 0, max = Number.MAX_SAFE_INTEGER }: { min?: number; max?: number } = {}): Parse<number> =>
  (raw) => {
    const value = /^\d+$/.test(raw) ? Number(raw) : Number.NaN
    if (!(value >= min && value <= max)) {
      throw new Error(
        `must be a whole number from ${min}${max === Number.MAX_SAFE_INTEGER ? '' : ` to ${max}`}`,
      )
    }
    return value
  }

/** 0 means none. */
export const port = integer({ min: 0, max: 65535 })

export const boolean: Parse<boolean> = (raw) => {
  if (/^(true|1|yes|on)$/i.test(raw)) return true
  if (/^(false|0|no|off)$/i.test(raw)) return false
  throw new Error('must be true or false')
}

/** One of `names`, in any case; gives the name as `names` writes it. */
export const oneOf =
  <N extends string>(names: readonly N[]): Parse<N> =>
  (raw) => {
    const found = names.find((name) => name.toLowerCase() === raw.toLowerCase())
    if (found === undefined) throw new Error(`must be one of ${names.join(', ')}`)
    return found
  }

/** Comma-separated, blanks around items dropped, empty items refused. */
export const list =
  <T>(item: Parse<T>): Parse<T[]> =>
  (raw) =>
    raw.split(',').map((part) => {
      if (part.trim() === '') throw new Error('has an empty item')
      return item(part.trim())
    })

export const absolutePath: Parse<string> = (raw) => {
  if (!isAbsolute(raw)) throw new Error('must be an absolute path')
  return raw
}

/** A DNS name such as issuer.example; no scheme, no port, no wildcard. */
export const domain: Parse<string> = (raw) => {
  if (
    !/^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(raw)
  ) {
    throw new Error(`holds "${raw}", which is not a domain name`)
  }
  return raw.toLowerCase()
}

/** An address such as ops@example.com; no display name. */
export const email: Parse<string> = (raw) => {
  if (!/^[^\s@<>",;:?&]+@[^\s@<>",;:?&]+$/.test(raw))
    throw new Error(`holds "${raw}", which is not an e-mail address`)
  return raw
}

/** Names and addresses that never leave this machine. */
export const isLoopbackHost = (host: string): boolean =>
  host === 'localhost' ||
  host.endsWith('.localhost') ||
  host === '[::1]' ||
  host === '::1' ||
  isLoopback4(host)

const isLoopback4 = (host: string): boolean => /^127(\.\d{1,3}){3}$/.test(host)

export interface UrlRules {
  /** Plain http where the host is not on this machine; false unless told. */
  readonly plainAnywhere?: boolean
  /** `unix:/path`; false unless told. */
  readonly unix?: boolean
  /** Refuses a path other than /; false unless told. */
  readonly originOnly?: boolean
}

/** An http(s) URL without user info, query or fragment; gives it without a trailing slash. */
export const httpUrl =
  ({ plainAnywhere = false, unix = false, originOnly = false }: UrlRules = {}): Parse<string> =>
  (raw) => {
    if (unix && raw.startsWith('unix:')) return `unix:${absolutePath(raw.slice('unix:'.length))}`
    const url = URL.canParse(raw) ? new URL(raw) : undefined
    if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
      throw new Error(`must be a URL such as https://host.example${unix ? ' or unix:/path' : ''}`)
    }
    if (url.username || url.password) throw new Error('must not hold a user name or password')
    if (url.search || url.hash || raw.includes('?') || raw.includes('#')) {
      throw new Error('must not hold a query or fragment')
    }
    if (url.protocol === 'http:' && !plainAnywhere && !isLoopbackHost(url.hostname)) {
      throw new Error('must be https; http is for this machine alone')
    }
    if (originOnly && url.pathname !== '/') throw new Error('must not hold a path')
    return url.href.replace(/\/+$/, '')
  }

/** Milliseconds of `500ms`, `10s`, `2m`, `1h`; more than zero. */
export const duration: Parse<number> = (raw) => {
  const match = /^(\d{1,9})(ms|s|m|h)$/.exec(raw)
  if (!match) throw new Error(`holds "${raw}", which is not a duration such as 500ms, 10s or 2m`)
  const unit = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match[2] as 'ms' | 's' | 'm' | 'h']
  const value = Number(match[1]) * unit
  if (value === 0) throw new Error('must be more than zero')
  return value
}
