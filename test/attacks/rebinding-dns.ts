import dns from 'node:dns'

/**
 * Loaded into the control plane: names below `rebind.test` resolve as an attacker's name server would have it. `flip`
 * says a public address first and loopback afterwards, `mixed` says both at once, `private` says where clouds keep
 * their metadata, `six` says loopback in the clothes of IPv6.
 */
const real = dns.lookup
const asked = new Map<string, number>()

const answers: Record<string, (count: number) => string[]> = {
  'flip.rebind.test': (count) => (count === 1 ? ['192.0.2.1'] : ['127.0.0.2']),
  'mixed.rebind.test': () => ['93.184.215.14', '127.0.0.2'],
  'private.rebind.test': () => ['169.254.169.254'],
  'six.rebind.test': () => ['::ffff:127.0.0.2'],
}

const patched = ((hostname: string, options: unknown, callback: unknown) => {
  const scripted = answers[hostname]
  if (!scripted) return (real as (...args: unknown[]) => void)(hostname, options, callback)
  const count = (asked.get(hostname) ?? 0) + 1
  asked.set(hostname, count)
  const done = (typeof options === 'function' ? options : callback) as (...args: unknown[]) => void
  const all = typeof options === 'object' && (options as { all?: boolean }).all === true
  const found = scripted(count).map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
  setImmediate(() => (all ? done(null, found) : done(null, found[0]!.address, found[0]!.family)))
}) as typeof dns.lookup

dns.lookup = patched
