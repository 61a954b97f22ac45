import '../../../shared/reflect.ts'
import { AuthorityKeyIdentifierExtension, X509Certificate } from '@peculiar/x509'
import { z } from 'zod'
import type { Acme } from './client.ts'
import type { AcmeState } from './store.ts'

const directorySchema = z.object({ renewalInfo: z.url().optional() })
const infoSchema = z.object({
  suggestedWindow: z.object({ start: z.string(), end: z.string() }),
  explanationURL: z.string().optional(),
})

/** How soon the server may be asked again, whatever its Retry-After says (RFC 9773 §4.3.2 asks for such bounds). */
const minCheckMs = 60_000
const maxCheckMs = 86_400_000
const usualCheckMs = 6 * 3_600_000

export type RenewalInfo = Omit<NonNullable<AcmeState['renewalInfo']>, 'fingerprint'>

/**
 * The id of a certificate: base64url of its authority key identifier and of its serial number (RFC 9773 §4.1).
 * undefined where it names no authority key.
 */
export function certificateId(der: Buffer): string | undefined {
  const certificate = new X509Certificate(der)
  const keyId = certificate.getExtension(AuthorityKeyIdentifierExtension)?.keyId
  if (!keyId) return undefined
  const serial = certificate.serialNumber.padStart(
    certificate.serialNumber.length + (certificate.serialNumber.length % 2),
    '0',
  )
  // DER's sign byte is part of the id; x509 hands out the hexadecimal of the INTEGER's content.
  const bytes = Buffer.from(serial, 'hex')
  const signed = (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes
  return `${Buffer.from(keyId, 'hex').toString('base64url')}.${signed.toString('base64url')}`
}

/**
 * Asks the server when the certificate should be renewed (RFC 9773 §4.2). undefined: it has no such service. Throws
 * where it has one that does not answer, or nonsense.
 */
export async function fetchRenewalInfo(
  { axios }: Acme,
  directoryUrl: string,
  certId: string,
  now: number,
): Promise<{ info: RenewalInfo; explanation: string | undefined } | undefined> {
  const directory = directorySchema.parse((await axios.get(directoryUrl)).data)
  if (directory.renewalInfo === undefined) return undefined
  const answer = await axios.get(`${directory.renewalInfo.replace(/\/$/, '')}/${certId}`)
  if (answer.status !== 200) throw new Error(`renewal information answered ${answer.status}`)
  const { suggestedWindow, explanationURL } = infoSchema.parse(answer.data)
  const start = Date.parse(suggestedWindow.start)
  const end = Date.parse(suggestedWindow.end)
  if (!(start < end)) throw new Error('renewal information holds no window')
  const asked = Number(answer.headers['retry-after']) * 1000
  const wait = Number.isFinite(asked) && asked > 0 ? asked : usualCheckMs
  return {
    info: { certId, start, end, nextCheckAt: now + Math.min(Math.max(wait, minCheckMs), maxCheckMs) },
    explanation: explanationURL,
  }
}
