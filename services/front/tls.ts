import type { TlsOptions } from 'node:tls'
import { readTlsFiles, TlsFileError, type TlsFiles, type TlsPaths } from '../../shared/config/tls-files.ts'
import { Fault } from '../../shared/faults.ts'

/**
 * TLS 1.2 with forward secrecy and AEAD alone, and TLS 1.3 (RFC 9325 §4.2). No DHE: its groups are a cost without a
 * client that needs them.
 */
const ciphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

/** What a listener and a later `setSecureContext` take. */
export function tlsOptions({ cert, key }: TlsFiles): TlsOptions {
  return {
    cert,
    key,
    ciphers,
    minVersion: 'TLSv1.2',
    honorCipherOrder: true,
    ALPNProtocols: ['h2', 'http/1.1'],
  }
}

/** A pair that has ended counts too. Throws Fault `config.invalid` that names the file. */
export function loadTls(paths: TlsPaths): TlsFiles {
  try {
    return readTlsFiles(paths, null)
  } catch (error) {
    if (error instanceof TlsFileError) throw new Fault('config.invalid', { detail: error.message })
    throw error
  }
}
