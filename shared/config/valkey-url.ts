import type { Parse } from './env.ts'

/** Where the session store is. Holds a secret: never printed whole. */
export interface ValkeySettings {
  readonly host: string
  readonly port: number
  readonly db: number
  readonly tls: boolean
  readonly username?: string
  readonly password?: string
  /** For logs: without user, password and parameters. */
  readonly shown: string
}

const shape = 'must be redis://host[:port][/db] or rediss://…, with user:password@ or ?user=…&pass=…'

/** `redis://` or `rediss://`; user and password before the host or as parameters `user` and `pass`. */
export const valkeyUrl: Parse<ValkeySettings> = (raw) => {
  const url = URL.canParse(raw) ? new URL(raw) : undefined
  if (!url || !/^rediss?:$/.test(url.protocol) || url.hostname === '' || url.hash !== '')
    throw new Error(shape)
  const db = /^\/?(\d{1,3})?$/.exec(url.pathname)
  if (!db) throw new Error(`${shape}; the path is the number of a database`)
  for (const key of url.searchParams.keys()) {
    if (key !== 'user' && key !== 'pass') throw new Error(`${shape}; the parameter ${key} is unknown`)
  }
  const both = (url.username || url.password) && url.searchParams.size > 0
  if (both) throw new Error(`${shape}, not both`)
  const username = decode(url.username) || url.searchParams.get('user') || undefined
  const password = decode(url.password) || url.searchParams.get('pass') || undefined
  if (username !== undefined && password === undefined) throw new Error(`${shape}; the user has no password`)
  const port = url.port === '' ? 6379 : Number(url.port)
  const number = Number(db[1] ?? 0)
  return Object.freeze({
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port,
    db: number,
    tls: url.protocol === 'rediss:',
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    shown: `${url.protocol}//${url.hostname}:${port}/${number}`,
  })
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw new Error(`${shape}; user or password is not percent-encoded`)
  }
}
