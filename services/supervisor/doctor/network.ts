import { connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import {
  checkServerIdentity,
  type DetailedPeerCertificate,
  rootCertificates,
  connect as tlsConnect,
} from 'node:tls'
import { wordsOf } from './http.ts'
import { failed, ok, type Patient, type Step, skipped, warning } from './step.ts'

const connectMs = 5_000
const dayMs = 86_400_000

const hostOf = ({ url }: Patient): string => url.hostname.replace(/^\[|\]$/g, '')
const portOf = ({ url }: Patient): number => Number(url.port) || (url.protocol === 'https:' ? 443 : 80)

const reach = (host: string, port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: connectMs })
    const give = (error: Error): void => {
      socket.destroy()
      reject(error)
    }
    socket.once('connect', () => {
      socket.destroy()
      resolve()
    })
    socket.once('timeout', () => give(Object.assign(new Error(), { code: 'ETIMEDOUT' })))
    socket.once('error', give)
  })

/** The way of a client to the gateway, as far as it can be walked from this machine. */
export const networkSteps: readonly Step[] = [
  {
    name: 'dns',
    needs: [],
    async run(patient) {
      const name = hostOf(patient)
      try {
        const addresses = await patient.lookup(name)
        const own = Object.values(networkInterfaces()).flatMap(
          (all) => all?.map(({ address }) => address) ?? [],
        )
        const here = addresses.some((address) => own.includes(address))
        const text = `${name} is ${addresses.join(', ')}`
        return ok(
          here ? text : `${text} (not an address of this machine: a load balancer or NAT, or a wrong record)`,
        )
      } catch (error) {
        return failed(
          `${name}: ${wordsOf(error)}`,
          `make an A or AAAA record of ${name}, or correct AEMBIT_MCP_GATEWAY_URL`,
        )
      }
    },
  },
  {
    name: 'https port',
    needs: ['dns'],
    async run(patient) {
      const [host, port] = [hostOf(patient), portOf(patient)]
      try {
        await reach(host, port)
        return ok(`${host}:${port} takes connections`)
      } catch (error) {
        return failed(
          `${host}:${port}: ${wordsOf(error)}`,
          `open port ${port} in the firewall and the security group; does the gateway listen on it (AEMBIT_HTTPS_PORT)?`,
        )
      }
    },
  },
  {
    name: 'http port',
    needs: ['dns'],
    async run(patient) {
      const { listen, tls } = patient.config
      if (listen.http === 0) return skipped('AEMBIT_HTTP_PORT is 0: nothing redirects to https')
      const port = patient.url.port === '' ? 80 : listen.http
      const needed = tls?.source === 'acme' && tls.challenge !== 'tls-alpn-01'
      try {
        await reach(hostOf(patient), port)
        return ok(`${hostOf(patient)}:${port} takes connections`)
      } catch (error) {
        const text = `${hostOf(patient)}:${port}: ${wordsOf(error)}`
        return tls?.source === 'acme' && tls.challenge === 'http-01'
          ? failed(
              text,
              'certificates are validated on port 80: open it, or set AEMBIT_ACME_CHALLENGE=tls-alpn-01',
            )
          : warning(text, needed ? 'open port 80 for http-01' : 'open it where browsers should be redirected')
      }
    },
  },
  {
    name: 'certificate',
    needs: ['https port'],
    async run(patient) {
      if (patient.url.protocol !== 'https:') {
        patient.trusted = true
        return ok('none: plain HTTP, on loopback alone')
      }
      return look(patient)
    },
  },
]

function look(patient: Patient): ReturnType<Step['run']> {
  const [host, port] = [hostOf(patient), portOf(patient)]
  return new Promise((resolve) => {
    const socket = tlsConnect({
      host,
      port,
      servername: /^[\d.]+$|:/.test(host) ? '' : host,
      ca: [...rootCertificates, ...patient.ca],
      // Looked at below, so that the reason can be told.
      rejectUnauthorized: false,
      timeout: connectMs,
      ALPNProtocols: ['http/1.1'],
    })
    const end = (found: Awaited<ReturnType<Step['run']>>): void => {
      socket.destroy()
      resolve(found)
    }
    const noTls = 'something other than the gateway listens there, or a proxy on the way speaks no TLS'
    socket.once('timeout', () => end(failed('no TLS handshake within 5 s', noTls)))
    socket.once('error', (error) => end(failed(`no TLS handshake: ${error.message}`, noTls)))
    socket.once('secureConnect', () => {
      const certificate = socket.getPeerCertificate(true)
      const reason = String(socket.authorizationError ?? '')
      const found = judge(patient, host, certificate, reason)
      patient.trusted = found.verdict !== 'failed'
      end(found)
    })
  })
}

function judge(
  patient: Patient,
  host: string,
  certificate: DetailedPeerCertificate,
  reason: string,
): Awaited<ReturnType<Step['run']>> {
  const expires = Date.parse(certificate.valid_to)
  const days = Math.floor((expires - patient.now()) / dayMs)
  const acme = patient.config.tls?.source === 'acme'
  const renew = acme
    ? 'status shows why the ACME server refused (acmeLastError); reload tries again at once'
    : 'put a new pair at AEMBIT_TLS_CERT_CHAIN_PATH and AEMBIT_TLS_PRIVATE_KEY_PATH'
  if (expires <= patient.now()) return failed(`expired on ${certificate.valid_to}`, renew)
  if (Date.parse(certificate.valid_from) > patient.now())
    return failed(`is not valid before ${certificate.valid_from}`, 'the clock of this machine may be wrong')
  const names = checkServerIdentity(host, certificate)
  if (names)
    return failed(
      `is not for ${host} but for ${(certificate.subjectaltname ?? certificate.subject.CN ?? 'nobody').slice(0, 300)}`,
      `order one for ${host}, or correct AEMBIT_MCP_GATEWAY_URL`,
    )
  if (reason !== '') {
    const alone = certificate.issuerCertificate === certificate || certificate.issuerCertificate === undefined
    if (reason === 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' || (reason.includes('LEAF') && alone))
      return failed(
        `the chain is not complete (${reason})`,
        'the file at AEMBIT_TLS_CERT_CHAIN_PATH needs the intermediate certificates after the leaf; of a private authority: --ca <its PEM file>',
      )
    return failed(
      `is not trusted (${reason}), issued by ${certificate.issuer.CN ?? 'nobody known'}`,
      acme && reason.includes('SELF_SIGNED')
        ? `the stopgap until the first certificate is issued: ${renew}`
        : 'agents will refuse it; of a private authority: --ca <its PEM file>, and the agents must trust it too',
    )
  }
  // Some last for days alone: what counts is whether its renewal is late.
  const renewal = Date.parse(patient.running?.summary?.certificate?.renewalAt ?? '')
  if (days < (acme ? 7 : 14) && !(renewal > patient.now()))
    return warning(`ends in ${days} days, on ${certificate.valid_to}`, renew)
  return ok(`for ${host}, trusted, ends in ${days} days`)
}
