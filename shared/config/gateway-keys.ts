import { isIP } from 'node:net'
import { logLevelNames } from '../log.ts'
import { optional, required, secret } from './env.ts'
import { absolutePath, boolean, domain, email, httpUrl, integer, list, oneOf, port, text } from './parsers.ts'
import { parseTimeouts, type Timeouts, timeoutDefaults } from './timeouts.ts'
import { valkeyUrl } from './valkey-url.ts'

export const acmeChallenges = ['auto', 'http-01', 'tls-alpn-01'] as const

/** The gateway's environment; the documented names come first and keep their meaning. */
export const gatewayTable = {
  AEMBIT_AUTHORIZATION_SERVER: optional(httpUrl(), null, 'URL of the authorization server; its issuer'),
  AEMBIT_TENANT_URL: optional(httpUrl(), null, 'older name of AEMBIT_AUTHORIZATION_SERVER'),
  AEMBIT_MCP_GATEWAY_URL: required(
    httpUrl(),
    'public URL of this gateway, with or without the path of its MCP endpoint',
  ),
  AEMBIT_AGENT_CONTROLLER_URL: required(httpUrl({ originOnly: true }), 'URL of the agent controller'),
  AEMBIT_TLS_CERT_CHAIN_PATH: optional(absolutePath, null, 'PEM file: the certificate and its chain'),
  AEMBIT_TLS_PRIVATE_KEY_PATH: optional(absolutePath, null, "PEM file: the certificate's private key"),
  AEMBIT_ACME_DIRECTORY_URL: optional(
    httpUrl(),
    null,
    'directory of the ACME server that issues the certificate, instead of the two PEM files',
  ),
  AEMBIT_ACME_AGREE_TO_TERMS: optional(boolean, false, "you agree to the ACME server's terms of service"),
  AEMBIT_ACME_DOMAINS: optional(
    list(domain),
    [] as string[],
    "names of the certificate; the gateway URL's host unless told",
  ),
  AEMBIT_ACME_CONTACT: optional(
    list(email),
    [] as string[],
    'e-mail addresses that the ACME server may write to',
  ),
  AEMBIT_ACME_CHALLENGE: optional(
    oneOf(acmeChallenges),
    'auto' as const,
    'http-01 (port 80), tls-alpn-01 (port 443), or auto: the first that the server offers and we listen for',
  ),
  AEMBIT_ACME_EAB_KEY_ID: optional(text, null, 'key id of the external account binding'),
  AEMBIT_ACME_EAB_HMAC_KEY_PATH: optional(
    absolutePath,
    null,
    'file with the base64url HMAC key of the external account binding',
  ),
  AEMBIT_ACME_CA_PATH: optional(
    absolutePath,
    null,
    'PEM file of further authorities that the ACME server itself is trusted by',
  ),
  AEMBIT_LOG_LEVEL: optional(oneOf(logLevelNames), 'info', 'how much is logged'),
  AEMBIT_METRICS_PORT: optional(port, 9091, 'port of /metrics, /healthz and /readyz; 0 = none'),
  AEMBIT_MCP_SESSION_IDLE_TTL_SECS: optional(
    integer({ min: 1, max: 1_209_600 }),
    43_200,
    'idle seconds after which a session ends',
  ),
  AEMBIT_TRUSTED_ISSUER_DOMAINS: optional(list(domain), [], 'domains whose token issuers may be trusted'),
  AEMBIT_MCP_GATEWAY_TIMEOUT: optional(
    parseTimeouts,
    timeoutDefaults as Timeouts,
    'name=duration,... waits for servers',
  ),
  AEMBIT_VALKEY_URL: secret(
    optional(valkeyUrl, null, 'redis:// or rediss:// URL of the store in which gateways share sessions'),
  ),
  AEMBIT_LISTEN_ADDRESS: optional(ipAddress, '0.0.0.0', 'IP address of the listeners'),
  AEMBIT_HTTPS_PORT: optional(integer({ min: 1, max: 65535 }), 443, 'port of the public endpoint'),
  AEMBIT_HTTP_PORT: optional(port, null, 'port that redirects to https; 80 unless told, 0 = none'),
  AEMBIT_PLAIN_HTTP: optional(
    boolean,
    false,
    'serve without TLS; with a loopback AEMBIT_LISTEN_ADDRESS alone',
  ),
  AEMBIT_PROXY_WORKERS: optional(integer({ min: 1, max: 64 }), 1, 'proxy processes'),
  AEMBIT_WARM_SPARES: optional(
    boolean,
    true,
    'a loaded process of each kind stands by for one that dies; false saves their memory',
  ),
  AEMBIT_RUNTIME_DIR: optional(absolutePath, '/run/aembit_mcp_gateway', 'sockets; made 0700'),
  AEMBIT_STATE_DIR: optional(
    absolutePath,
    '/var/lib/aembit_mcp_gateway',
    'last-good policy, event spool; made 0700',
  ),
  AEMBIT_CONTROL_PLANE_URL: optional(
    httpUrl({ unix: true }),
    null,
    'machine API of the control plane; the authorization server unless told',
  ),
  AEMBIT_CONTROL_PLANE_SOCKET: optional(
    absolutePath,
    null,
    'unix socket that paths other than the MCP endpoint are passed to',
  ),
  AEMBIT_ENROLMENT_SECRET_PATH: optional(
    absolutePath,
    null,
    'file with the secret that the agent controller asks for',
  ),
  AEMBIT_STDIO_SERVERS_PATH: optional(
    absolutePath,
    null,
    'file of the local MCP servers that this gateway may start (stdio)',
  ),
  AEMBIT_GEOIP_DATABASE_PATH: optional(
    absolutePath,
    null,
    'MaxMind-format database (.mmdb, City or Country) for access conditions on place',
  ),
  AEMBIT_SNAPSHOT_MAX_AGE_SECS: optional(
    integer({ min: 5, max: 604_800 }),
    3600,
    'seconds that policy counts without confirmation',
  ),
  AEMBIT_MAX_BODY_BYTES: optional(integer({ min: 1024, max: 67_108_864 }), 4_194_304, 'largest request body'),
  AEMBIT_ALLOWED_ORIGINS: optional(
    list(httpUrl({ originOnly: true, plainAnywhere: true })),
    [],
    'further Origins of browsers',
  ),
  AEMBIT_DRAIN_SECS: optional(
    integer({ min: 0, max: 3600 }),
    30,
    'seconds that running requests get at a stop',
  ),
  AEMBIT_ENV_FILE: optional(absolutePath, null, 'file of KEY=value lines, read again at each reload'),
} as const

function ipAddress(raw: string): string {
  const bare = raw.replace(/^\[(.*)\]$/, '$1')
  if (isIP(bare) === 0) throw new Error('must be an IP address such as 0.0.0.0, :: or 127.0.0.1')
  return bare
}
