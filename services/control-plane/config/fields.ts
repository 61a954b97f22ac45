import { BlockList } from 'node:net'
import { z } from 'zod'

/** The values that several objects of the configuration are made of. */
const units: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** `90s`, `15m`, `12h`, `30d` → seconds. */
export const duration = (fallback: string, max: string) =>
  z
    .string()
    .regex(/^[1-9]\d{0,6}[smhd]$/, 'is no duration, write a number and a unit, as in 90s, 15m, 12h or 30d')
    .transform(seconds)
    .refine((value) => value <= seconds(max), `is longer than ${max}, choose a shorter one`)
    .prefault(fallback)

function seconds(text: string): number {
  return Number.parseInt(text, 10) * (units[text.at(-1) ?? 's'] ?? 1)
}

export const id = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, 'is no id, use up to 63 letters, digits, "-", "_" and "."')
export const text = z
  .string()
  .min(1, 'is empty, write a text')
  .max(200, 'is longer than 200 characters, shorten it')
export const email = z
  .string()
  .max(254)
  .regex(/^[^\s@]+@[^\s@]+$/, 'is no e-mail address, write one like ann@example.com')

const cidr = z
  .string()
  .refine(isCidr, 'is no CIDR block, write one like 10.1.0.0/16, 127.0.0.1/32 or ::1/128')
export const networks = z.array(cidr).default([])

/** http(s), no user information, no fragment: the rest of what makes a URL fit depends on its use. */
export const webUrl = z
  .string()
  .refine(isWebUrl, 'is no URL this can use, write https://host/path without user name and without #fragment')

/** A server: http(s), or a local one by the name that the operator of the gateway's machine gave it. */
export const serverUrl = z
  .string()
  .refine(
    (value) => isWebUrl(value) || /^stdio:[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/.test(value),
    'is no URL this can use, write https://host/path without user name and without #fragment, or stdio:name for a local server of the gateway',
  )

/** No trailing slash, no query: compared byte for byte with `iss` and `aud` (RFC 8414 §2, RFC 9728 §1.2). */
export const identifierUrl = webUrl.refine(
  (value) => !isWebUrl(value) || (!new URL(value).search && !value.endsWith('/')),
  'is compared byte for byte, write it without a query and without a trailing slash',
)

export const headerName = z
  .string()
  .regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$/, 'is no HTTP header name, write one like X-Api-Key')
  .refine(
    (name) => !hopHeaders.has(name.toLowerCase()),
    'is a header the gateway writes itself, choose another',
  )
const hopHeaders = new Set([
  'connection',
  'content-length',
  'content-type',
  'host',
  'mcp-method',
  'mcp-name',
  'mcp-protocol-version',
  'mcp-session-id',
  'transfer-encoding',
  'upgrade',
])

/** `aud` of our own tokens for the administration API. */
export const apiAudience = (origin: string): string => `${origin}/api`

function isWebUrl(value: string): boolean {
  if (!URL.canParse(value)) return false
  const url = new URL(value)
  return ['http:', 'https:'].includes(url.protocol) && !url.username && !url.password && !value.includes('#')
}

export function isCidr(value: string): boolean {
  const [address = '', bits = '', rest] = value.split('/')
  if (rest !== undefined || !/^\d{1,3}$/.test(bits)) return false
  try {
    new BlockList().addSubnet(address, Number(bits), address.includes(':') ? 'ipv6' : 'ipv4')
    return true
  } catch {
    return false
  }
}
