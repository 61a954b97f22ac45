import { Fault } from '../../../../shared/faults.ts'

/**
 * The `data` of each server-sent event in a body (WHATWG HTML §9.2.6). Other fields are of no use to us: MCP puts
 * one JSON-RPC message into one event. Throws `upstream.too_large` where one event exceeds `limit` bytes.
 */
export async function* readEvents(body: AsyncIterable<Uint8Array>, limit: number): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  const lineEnd = /\r\n|\n|\r(?!$)/g
  let pending = ''
  /** Where the search goes on, so that one long line is not searched again with each chunk. */
  let searched = 0
  let data: string[] = []
  let size = 0
  for await (const chunk of body) {
    pending += decoder.decode(chunk, { stream: true })
    for (;;) {
      lineEnd.lastIndex = searched
      const found = lineEnd.exec(pending)
      if (!found) {
        searched = Math.max(0, pending.length - 1)
        break
      }
      const line = pending.slice(0, found.index)
      pending = pending.slice(lineEnd.lastIndex)
      searched = 0
      if (line === '') {
        if (data.length > 0) yield data.join('\n')
        data = []
        size = 0
      } else if (line.startsWith('data:')) {
        const value = line.slice(line[5] === ' ' ? 6 : 5)
        size += value.length
        data.push(value)
      }
      if (size > limit) throw new Fault('upstream.too_large')
    }
    if (pending.length + size > limit) throw new Fault('upstream.too_large')
  }
}
