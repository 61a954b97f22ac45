import { request } from 'node:http'

/** Nobody answers on the operator socket, or it may not be opened. */
export class OperatorUnreachable extends Error {
  override readonly name = 'OperatorUnreachable'
}

/** A rolling restart waits for its successor; a drain is not waited for. */
const timeoutMs = 300_000
const maxBytes = 4 * 1024 * 1024

/** One request to the gateway's operator socket. Throws OperatorUnreachable. */
export function ask(
  socketPath: string,
  method: string,
  path: string,
): Promise<{ status: number; body: unknown }> {
  return new Promise((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException): void =>
      reject(new OperatorUnreachable(explain(socketPath, error)))
    const sent = request({ socketPath, method, path, timeout: timeoutMs }, (response) => {
      const chunks: Buffer[] = []
      let size = 0
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > maxBytes) response.destroy(new Error('the answer is too long'))
        else chunks.push(chunk)
      })
      response.on('error', fail)
      response.on('end', () => {
        try {
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(Buffer.concat(chunks).toString()) })
        } catch {
          fail(new Error('the answer is not JSON'))
        }
      })
    })
    sent.on('timeout', () => sent.destroy(new Error('no answer in time')))
    sent.on('error', fail)
    sent.end()
  })
}

function explain(path: string, error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') {
    return `no gateway runs on ${path}; is the service started, and AEMBIT_RUNTIME_DIR the same?`
  }
  if (error.code === 'EACCES') return `${path} may be opened by root and the gateway's own user alone`
  return `the gateway does not answer on ${path}: ${error.message}`
}
