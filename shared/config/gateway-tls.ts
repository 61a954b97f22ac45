import { isIP } from 'node:net'
import { join } from 'node:path'
import type { Tell, Values } from './gateway.ts'
import { isLoopbackHost } from './parsers.ts'
import { checkReadable } from './readable.ts'
import { readTlsFiles, TlsFileError, type TlsPaths } from './tls-files.ts'

/** Where the certificate of the public endpoint comes from. */
export type TlsSource =
  | ({ readonly source: 'files' } & TlsPaths)
  | ({ readonly source: 'acme' } & AcmeSettings)

/** How certificates are ordered (RFC 8555). */
export interface AcmeSettings {
  readonly directoryUrl: string
  /** DNS names of the certificate; the first is its subject. */
  readonly domains: readonly string[]
  /** E-mail addresses. */
  readonly contact: readonly string[]
  readonly challenge: 'auto' | 'http-01' | 'tls-alpn-01'
  /** External account binding (RFC 8555 §7.3.4); the file holds the HMAC key, base64url. */
  readonly eab: { readonly keyId: string; readonly hmacKeyPath: string } | null
  /** Further authorities for the connection to the ACME server itself. */
  readonly caPath: string | null
  /** Folder of account, certificate and state. */
  readonly dir: string
}

/** An identifier that ACME can prove by http-01 or tls-alpn-01: a public DNS name. */
const orderable = (name: string): boolean => isIP(name) === 0 && !name.startsWith('[') && !name.includes('*')

/** Every problem with the settings of TLS; reads the PEM files that they name. */
export function checkTls(values: Partial<Values>, httpPort: number, problem: Tell, now: number | null): void {
  if (values.AEMBIT_PLAIN_HTTP) {
    if (values.AEMBIT_ACME_DIRECTORY_URL)
      problem('AEMBIT_ACME_DIRECTORY_URL', 'has no use with AEMBIT_PLAIN_HTTP: no certificate is served')
    return
  }
  if (values.AEMBIT_ACME_DIRECTORY_URL) checkAcme(values, httpPort, problem)
  else if (values.AEMBIT_ACME_DIRECTORY_URL === null) checkFiles(values, problem, now)
}

function checkFiles(values: Partial<Values>, problem: Tell, now: number | null): void {
  const { AEMBIT_TLS_CERT_CHAIN_PATH: cert, AEMBIT_TLS_PRIVATE_KEY_PATH: key } = values
  for (const name of acmeKeys) {
    const value = values[name]
    const set = Array.isArray(value)
      ? value.length > 0
      : value !== null && value !== false && value !== 'auto'
    if (value !== undefined && set) problem(name, 'has no use without AEMBIT_ACME_DIRECTORY_URL')
  }
  if (cert === null)
    problem('AEMBIT_TLS_CERT_CHAIN_PATH', 'is required, or AEMBIT_ACME_DIRECTORY_URL instead')
  if (key === null)
    problem('AEMBIT_TLS_PRIVATE_KEY_PATH', 'is required, or AEMBIT_ACME_DIRECTORY_URL instead')
  if (!cert || !key) return
  try {
    readTlsFiles({ certChainPath: cert, privateKeyPath: key }, now)
  } catch (error) {
    if (!(error instanceof TlsFileError)) throw error
    problem(
      error.file === 'cert' ? 'AEMBIT_TLS_CERT_CHAIN_PATH' : 'AEMBIT_TLS_PRIVATE_KEY_PATH',
      error.message,
    )
    // Both files are told in one run: a bad certificate must not hide an unreadable key.
    if (error.file === 'cert')
      checkReadable(key, (message) => problem('AEMBIT_TLS_PRIVATE_KEY_PATH', message))
  }
}

const acmeKeys = [
  'AEMBIT_ACME_AGREE_TO_TERMS',
  'AEMBIT_ACME_DOMAINS',
  'AEMBIT_ACME_CONTACT',
  'AEMBIT_ACME_CHALLENGE',
  'AEMBIT_ACME_EAB_KEY_ID',
  'AEMBIT_ACME_EAB_HMAC_KEY_PATH',
  'AEMBIT_ACME_CA_PATH',
] as const

function checkAcme(values: Partial<Values>, httpPort: number, problem: Tell): void {
  for (const name of ['AEMBIT_TLS_CERT_CHAIN_PATH', 'AEMBIT_TLS_PRIVATE_KEY_PATH'] as const) {
    if (values[name]) problem(name, 'is given beside AEMBIT_ACME_DIRECTORY_URL; give one of them')
  }
  if (values.AEMBIT_ACME_AGREE_TO_TERMS === false) {
    problem(
      'AEMBIT_ACME_AGREE_TO_TERMS',
      "must be true: read the ACME server's terms of service and agree to them",
    )
  }
  checkDomains(values, problem)
  if (values.AEMBIT_ACME_CHALLENGE === 'http-01' && httpPort === 0)
    problem('AEMBIT_ACME_CHALLENGE', 'http-01 needs the listener that AEMBIT_HTTP_PORT=0 turned off')
  const { AEMBIT_ACME_EAB_KEY_ID: keyId, AEMBIT_ACME_EAB_HMAC_KEY_PATH: hmac } = values
  if (keyId === null && hmac)
    problem('AEMBIT_ACME_EAB_KEY_ID', 'is required with AEMBIT_ACME_EAB_HMAC_KEY_PATH')
  if (hmac === null && keyId)
    problem('AEMBIT_ACME_EAB_HMAC_KEY_PATH', 'is required with AEMBIT_ACME_EAB_KEY_ID')
  for (const name of ['AEMBIT_ACME_EAB_HMAC_KEY_PATH', 'AEMBIT_ACME_CA_PATH'] as const) {
    const path = values[name]
    if (path) checkReadable(path, (message) => problem(name, message))
  }
}

/** A name that no CA issues for would only be noticed by the first failed order. */
function checkDomains(values: Partial<Values>, problem: Tell): void {
  const { AEMBIT_ACME_DOMAINS: domains, AEMBIT_MCP_GATEWAY_URL: url } = values
  if (domains === undefined || url === undefined) return
  const host = new URL(url).hostname
  if (domains.length === 0 && !orderable(host)) {
    problem('AEMBIT_ACME_DOMAINS', `is required: no certificate can be ordered for ${host}`)
  }
  if (domains.length > 0 && !domains.includes(host) && !isLoopbackHost(host)) {
    problem('AEMBIT_ACME_DOMAINS', `does not hold ${host}, the host of AEMBIT_MCP_GATEWAY_URL`)
  }
  if (domains.length > 100) problem('AEMBIT_ACME_DOMAINS', 'holds more than 100 names')
  for (const name of domains) {
    if (!orderable(name)) problem('AEMBIT_ACME_DOMAINS', `holds ${name}, which is not a DNS name`)
  }
}

export function toTlsSource(values: Values, host: string): TlsSource | null {
  if (values.AEMBIT_PLAIN_HTTP) return null
  const directoryUrl = values.AEMBIT_ACME_DIRECTORY_URL
  if (directoryUrl === null) {
    return {
      source: 'files',
      certChainPath: values.AEMBIT_TLS_CERT_CHAIN_PATH ?? '',
      privateKeyPath: values.AEMBIT_TLS_PRIVATE_KEY_PATH ?? '',
    }
  }
  const { AEMBIT_ACME_EAB_KEY_ID: keyId, AEMBIT_ACME_EAB_HMAC_KEY_PATH: hmacKeyPath } = values
  return {
    source: 'acme',
    directoryUrl,
    domains: values.AEMBIT_ACME_DOMAINS.length > 0 ? values.AEMBIT_ACME_DOMAINS : [host],
    contact: values.AEMBIT_ACME_CONTACT,
    challenge: values.AEMBIT_ACME_CHALLENGE,
    eab: keyId && hmacKeyPath ? { keyId, hmacKeyPath } : null,
    caPath: values.AEMBIT_ACME_CA_PATH,
    dir: join(values.AEMBIT_STATE_DIR, 'acme'),
  }
}
