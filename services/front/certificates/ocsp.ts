import '../../../shared/reflect.ts'
import type { X509Certificate } from 'node:crypto'
import { BasicOCSPResponse, Certificate, ExtKeyUsage, getCrypto, OCSPRequest, OCSPResponse } from 'pkijs'
import { request } from 'undici'

const timeoutMs = 10_000
const maxBytes = 64 * 1024
const successful = 0
const good = 0
const ocspSigning = '1.3.6.1.5.5.7.3.9'
const extendedKeyUsage = '2.5.29.37'
const basicResponse = '1.3.6.1.5.5.7.48.1.1'

/** What the issuer says of a certificate, as it is stapled. */
export interface Staple {
  readonly der: Buffer
  /** ms since the epoch. */
  readonly thisUpdate: number
  readonly nextUpdate: number
}

/** The responder's URL in a certificate (RFC 5280 §4.2.2.1), or undefined: many issuers give none any more. */
export const ocspUrl = (leaf: X509Certificate): string | undefined => {
  const found = /^OCSP - URI:(https?:\/\/\S+)$/m.exec(leaf.infoAccess ?? '')?.[1]
  return found && URL.canParse(found) ? found : undefined
}

/**
 * Asks the responder (RFC 6960) and gives what may be stapled: an answer for this certificate, "good", signed by the
 * issuer or its delegate, and current. Throws with one line that says what is wrong.
 */
export async function fetchStaple(
  url: string,
  leafDer: Buffer,
  issuerDer: Buffer,
  now: number,
): Promise<Staple> {
  const leaf = Certificate.fromBER(leafDer)
  const issuer = Certificate.fromBER(issuerDer)
  const question = new OCSPRequest()
  await question.createForCertificate(leaf, { hashAlgorithm: 'SHA-1', issuerCertificate: issuer })
  const answer = await request(url, {
    method: 'POST',
    headers: { 'content-type': 'application/ocsp-request', accept: 'application/ocsp-response' },
    body: Buffer.from(question.toSchema(true).toBER()),
    signal: AbortSignal.timeout(timeoutMs),
  })
  const der = await readBounded(answer.body)
  if (answer.statusCode !== 200) throw new Error(`the OCSP responder answered ${answer.statusCode}`)
  return check(der, leaf, issuer, now)
}

async function check(der: Buffer, leaf: Certificate, issuer: Certificate, now: number): Promise<Staple> {
  const response = OCSPResponse.fromBER(der)
  const { responseBytes, responseStatus } = response
  if (responseStatus.valueBlock.valueDec !== successful || responseBytes?.responseType !== basicResponse)
    throw new Error('the OCSP responder gave no answer for the certificate')
  const basic = BasicOCSPResponse.fromBER(responseBytes.response.valueBlock.valueHexView)
  const { isForCertificate, status } = await basic.getCertificateStatus(leaf, issuer)
  if (!isForCertificate) throw new Error('the OCSP responder answered for another certificate')
  if (status !== good)
    throw new Error(`the issuer says that the certificate is ${status === 1 ? 'REVOKED' : 'unknown'}`)
  if (!(await signedBy(basic, issuer))) throw new Error('the signature of the OCSP answer does not verify')
  const [single] = basic.tbsResponseData.responses
  const thisUpdate = single?.thisUpdate.getTime() ?? Number.NaN
  const nextUpdate = single?.nextUpdate?.getTime() ?? now + 3_600_000
  if (!(thisUpdate <= now + 300_000 && nextUpdate > now)) throw new Error('the OCSP answer is not current')
  return { der, thisUpdate, nextUpdate }
}

/**
 * Signed by the issuer itself, or by a responder whose certificate the issuer signed for that purpose
 * (RFC 6960 §4.2.2.2). pkijs' own check wants a chain up to a root, which a TLS server does not have.
 */
async function signedBy(basic: BasicOCSPResponse, issuer: Certificate): Promise<boolean> {
  const engine = getCrypto(true)
  const signer = async ({ subjectPublicKeyInfo }: Certificate): Promise<boolean> => {
    try {
      return await engine.verifyWithPublicKey(
        basic.tbsResponseData.tbsView as Uint8Array<ArrayBuffer>,
        basic.signature,
        subjectPublicKeyInfo,
        basic.signatureAlgorithm,
      )
    } catch {
      return false
    }
  }
  if (await signer(issuer)) return true
  for (const delegate of basic.certs ?? []) {
    const usage = delegate.extensions?.find(({ extnID }) => extnID === extendedKeyUsage)?.parsedValue
    const may = usage instanceof ExtKeyUsage && usage.keyPurposes.includes(ocspSigning)
    if (may && (await delegate.verify(issuer)) && (await signer(delegate))) return true
  }
  return false
}

async function readBounded(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = []
  let size = 0
  for await (const part of body) {
    size += part.length
    if (size > maxBytes) throw new Error(`the OCSP answer is larger than ${maxBytes} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts)
}
