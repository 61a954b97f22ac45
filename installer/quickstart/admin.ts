import { request } from 'node:http'

/** A person's or a script's request to the control plane, over its unix socket. */
export interface AdminAnswer {
  readonly status: number
  readonly body: unknown
}

const maxBytes = 4 * 1024 * 1024
const timeoutMs = 5000

export const adminRequest = (
  socketPath: string,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  token?: string,
  body?: unknown,
): Promise<AdminAnswer> =>
  new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : JSON.stringify(body)
    const headers = {
      host: 'localhost',
      accept: 'application/json',
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...(payload
        ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
        : {}),
    }
    const outgoing = request({ socketPath, method, path, headers, timeout: timeoutMs }, (response) => {
      const chunks: Buffer[] = []
      let size = 0
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > maxBytes) response.destroy(new Error(`${path} answered more than ${maxBytes} bytes`))
        chunks.push(chunk)
      })
      response.on('error', reject)
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8')
        try {
          resolve({ status: response.statusCode ?? 0, body: text === '' ? undefined : JSON.parse(text) })
        } catch {
          reject(new Error(`${path} answered ${response.statusCode} with something that is not JSON`))
        }
      })
    })
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${path} did not answer within ${timeoutMs} ms`)))
    outgoing.on('error', reject)
    outgoing.end(payload)
  })
