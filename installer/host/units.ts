import { dirname } from 'node:path'
import type { GatewayConfig } from '../../shared/config/gateway.ts'
import { type ApplicationName, credentialsOf, tlsFolder } from './layout.ts'
import type { Settings } from './settings.ts'

/** A `%` begins a specifier in a unit file. */
const literal = (text: string): string => text.replaceAll('%', '%%')

const loadCredentials = (rows: readonly { id: string; source: string }[]): string =>
  rows.map(({ id, source }) => `LoadCredential=${id}:${literal(source)}`).join('\n')

/** Beyond the drain: the start of the stop, and the last word to processes that hang. */
const stopMarginSecs = 30

/** Fills a unit of etc/systemd/. Throws where a marker is left over. */
export function fillUnit(template: string, values: Readonly<Record<string, string>>): string {
  const filled = template.replace(/@([A-Z_]+)@\n?/g, (marker, name: string) => {
    const value = values[name]
    if (value === undefined) throw new Error(`${marker.trim()} has no value`)
    return marker.endsWith('\n') ? (value === '' ? '' : `${value}\n`) : value
  })
  return filled
}

/** The markers of one application's units. */
export function unitValues(
  name: ApplicationName,
  settings: Settings,
  config: GatewayConfig | undefined,
  /** Lines of the unit that local servers need. */
  stdioServers = '',
): Readonly<Record<string, string>> {
  const own = { CREDENTIALS: loadCredentials(credentialsOf(name, settings)) }
  if (!config) return own
  const address = (port: number): string =>
    `ListenStream=${config.listen.address.includes(':') ? `[${config.listen.address}]` : config.listen.address}:${port}`
  return {
    ...own,
    STDIO_SERVERS: config.stdioServersPath === null ? '' : stdioServers.trimEnd(),
    STOP_SECS: String(config.drainMs / 1000 + stopMarginSecs),
    // In this order: a service gets them as `https` and `http`.
    LISTEN: [config.listen.https, config.listen.http]
      .filter((port) => port !== 0)
      .map(address)
      .join('\n'),
  }
}

/** The units that bring the certificate; none where the gateway has it from elsewhere. */
export function tlsValues(settings: Settings): Readonly<Record<string, string>> | undefined {
  const { AEMBIT_TLS_CERT_CHAIN_PATH: cert, AEMBIT_TLS_PRIVATE_KEY_PATH: key } = settings
  if (!cert || !key) return undefined
  const files = [
    { id: 'cert_chain.pem', source: cert },
    { id: 'private_key.pem', source: key },
  ]
  // A watch on a symlink is one on the file behind it: that another takes its name (certbot) only its folder tells.
  const watched = new Set(files.flatMap(({ source }) => [source, dirname(source)]))
  return {
    CREDENTIALS: loadCredentials(files),
    PATHS: [...watched].map((path) => `PathChanged=${literal(path)}`).join('\n'),
    FOLDER: tlsFolder,
  }
}
