import { mkdtempSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeCertificate } from '../supervisor/certificates.ts'

export interface HttpsSite {
  /** https://localhost:<port> */
  readonly origin: string
  /** PEM to trust, as text and as a file. */
  readonly ca: string
  readonly caPath: string
  /** Paths that were asked for. */
  readonly seen: string[]
  close(): Promise<void>
}

/** A web site on loopback with a certificate of its own for localhost and 127.0.0.1. */
export async function startHttpsSite(
  answer: (request: IncomingMessage, response: ServerResponse, origin: string) => void,
): Promise<HttpsSite> {
  const dir = mkdtempSync(join(tmpdir(), 'site-'))
  const { certChainPath, privateKeyPath, pem } = makeCertificate(dir, 'site')
  const seen: string[] = []
  const server = createServer(
    { cert: readFileSync(certChainPath), key: readFileSync(privateKeyPath) },
    (request, response) => {
      seen.push(request.url ?? '')
      answer(request, response, origin)
    },
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const origin = `https://localhost:${(server.address() as AddressInfo).port}`
  return {
    origin,
    ca: pem,
    caPath: certChainPath,
    seen,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await rm(dir, { recursive: true, force: true })
    },
  }
}
