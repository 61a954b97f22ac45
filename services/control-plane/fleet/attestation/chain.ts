import '../../../../shared/reflect.ts'
import { type Certificate, CertificateChainValidationEngine } from 'pkijs'
import { toNode } from './cms.ts'
import { EvidenceError } from './types.ts'

/**
 * RFC 5280 §6 path validation from `leaf` to one of `roots`: signatures, dates, CA flags, path lengths, key usages, name
 * constraints. Revocation lists are not asked for. Throws EvidenceError.
 */
export async function verifyChain(
  leaf: Certificate,
  more: readonly Certificate[],
  roots: readonly Certificate[],
  now: number,
): Promise<void> {
  if (toNode(leaf).ca) throw new EvidenceError('the signing certificate is one of an authority')
  const engine = new CertificateChainValidationEngine({
    trustedCerts: [...roots],
    certs: [...more, leaf],
    checkDate: new Date(now),
  })
  let verdict: { result: boolean; resultMessage: string }
  try {
    verdict = await engine.verify()
  } catch {
    verdict = { result: false, resultMessage: 'it does not parse' }
  }
  if (!verdict.result) {
    throw new EvidenceError(
      `the chain of the signing certificate does not verify to a configured root (${verdict.resultMessage})`,
    )
  }
}
