import dns from 'node:dns'
import type { LookupFunction } from 'node:net'
import ipaddr from 'ipaddr.js'
import { Fault } from './faults.ts'

/**
 * The SSRF guard: which addresses a URL that someone else chose may resolve to. Public unicast space is open;
 * loopback, private, link-local, metadata, multicast, reserved and every IPv6 form that embeds an IPv4 address
 * is shut unless a CIDR block of `allowed` names it.
 */
export interface NetworkGuard {
  /** Throws `upstream.blocked` where the address is refused. */
  check(address: string): void
  /** A `lookup` for node:net/undici that refuses blocked answers at connect time, so a DNS change can not slip by. */
  readonly lookup: LookupFunction
}

export function createNetworkGuard(allowed: readonly string[]): NetworkGuard {
  const blocks = allowed.map((cidr) => ipaddr.parseCIDR(cidr))

  const isAllowed = (address: string): boolean => {
    if (!ipaddr.isValid(address)) return false
    const parsed = ipaddr.process(address)
    if (blocks.some(([base, bits]) => base.kind() === parsed.kind() && parsed.match(base, bits))) return true
    return parsed.range() === 'unicast'
  }

  const check = (address: string): void => {
    if (!isAllowed(address)) {
      throw new Fault('upstream.blocked', {
        detail: `address ${address} is not in public space or an allowed network`,
      })
    }
  }

  const lookup: LookupFunction = (hostname, options, callback) => {
    dns.lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, '', 0)
      const open = addresses.filter(({ address }) => isAllowed(address))
      const first = open[0]
      // One refused answer among good ones is how rebinding looks: refuse the name, not just the address.
      if (!first || open.length !== addresses.length) {
        const refused = addresses.map(({ address }) => address).join(', ')
        return callback(
          new Fault('upstream.blocked', {
            detail: `${hostname} resolves to ${refused}`,
          }) as unknown as NodeJS.ErrnoException,
          '',
          0,
        )
      }
      if (options.all) return callback(null, open)
      callback(null, first.address, first.family)
    })
  }
  return { check, lookup }
}
