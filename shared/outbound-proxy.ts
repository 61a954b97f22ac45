import ipaddr from 'ipaddr.js'
import { Fault } from './faults.ts'

type Env = Readonly<Record<string, string | undefined>>

/**
 * The forward proxy for requests to `url`, by the customary variables: HTTPS_PROXY (https), HTTP_PROXY (http), and
 * NO_PROXY, a list of hosts that are reached directly; lower case wins. null: none, as for this machine always.
 * Throws `config.invalid` for a proxy that is none.
 */
export function proxyFor(url: URL, env: Env): URL | null {
  const name = url.protocol === 'https:' ? 'https_proxy' : 'http_proxy'
  const of = (key: string): string => (env[key] || env[key.toUpperCase()] || '').trim()
  const wanted = of(name)
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase()
  if (wanted === '' || isThisMachine(host) || isExempt(host, portOf(url), of('no_proxy'))) return null
  const written = wanted.includes('://') ? wanted : `http://${wanted}`
  const proxy = URL.canParse(written) ? new URL(written) : undefined
  if (!proxy?.hostname || !/^https?:$/.test(proxy.protocol)) {
    throw new Fault('config.invalid', {
      detail: `${name.toUpperCase()} must be http://host:port, https://host:port, or host:port`,
    })
  }
  return proxy
}

const isThisMachine = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)

const portOf = ({ port, protocol }: URL): string => port || (protocol === 'https:' ? '443' : '80')

/** Items: `*`, a host and what is below it (with or without a leading dot or `*.`), an address, a block; `:port` narrows. */
function isExempt(host: string, port: string, list: string): boolean {
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .filter(Boolean)
    .some((item) => {
      if (item === '*') return true
      const [, name = item, only] = /^(.*[^:]|\[.*\]):(\d+)$/.exec(item) ?? []
      if (ipaddr.isValid(item)) return sameAddress(item, host)
      if (only !== undefined && only !== port) return false
      if (ipaddr.isValidCIDR(name)) return inBlock(name, host)
      const plain = name.replace(/^\*?\./, '').replace(/^\[|\]$/g, '')
      return host === plain || host.endsWith(`.${plain}`)
    })
}

const sameAddress = (item: string, host: string): boolean =>
  ipaddr.isValid(host) && ipaddr.process(item).toString() === ipaddr.process(host).toString()

function inBlock(block: string, host: string): boolean {
  if (!ipaddr.isValid(host)) return false
  const [base, bits] = ipaddr.parseCIDR(block)
  const address = ipaddr.process(host)
  return base.kind() === address.kind() && address.match(base, bits)
}
