import { Fault } from './faults.ts'

/**
 * An answer of `fetch` with a bound on what is read of it. `fetch` decodes content by itself, and undici's own bound
 * counts what came over the wire: a few kilobytes there may be gigabytes here. Throws a Fault for an encoding on top of
 * another, which nobody needs; reading more than `maxBytes` fails with `upstream.too_large`.
 */
export async function boundedAnswer(response: Response, url: string, maxBytes: number): Promise<Response> {
  // Without its query, which may hold a code.
  const { origin, pathname } = new URL(url)
  const { status, statusText, headers, body } = response
  if (headers.get('content-encoding')?.includes(',')) {
    await body?.cancel().catch(() => {})
    throw new Fault('upstream.garbage', { detail: `${origin}${pathname} encoded its answer more than once` })
  }
  if (body === null) return response
  let bytes = 0
  const counted = body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => {
        bytes += chunk.byteLength
        if (bytes > maxBytes) {
          throw new Fault('upstream.too_large', { detail: `${origin}${pathname}: over ${maxBytes} bytes` })
        }
        controller.enqueue(chunk)
      },
    }),
  )
  const decoded = new Headers(headers)
  decoded.delete('content-encoding')
  decoded.delete('content-length')
  return new Response(counted, { status, statusText, headers: decoded })
}
