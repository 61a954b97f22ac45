import type { ServerResponse } from 'node:http'

/** What became of one request: `result`, `rpc <code>`, `http <status>`, `connection <code>`, `wrong`, `lost`. */
export type Outcome = string

export interface Asked {
  readonly id: unknown
  readonly nonce: string
  readonly progressToken: unknown
  /** A result with the nonce in it, and `bytes` more. */
  answer(bytes?: number): string
}

export interface Vice {
  /** What a client may get. Anything else is a finding. */
  readonly allowed: readonly Outcome[]
  do(asked: Asked, response: ServerResponse): void
}

const json = { 'content-type': 'application/json' }
const stream = { 'content-type': 'text/event-stream' }
const event = (text: string): string => `event: message\ndata: ${text}\n\n`
const progress = ({ progressToken }: Asked, step: number): string =>
  event(
    JSON.stringify({
      jsonrpc: '2.0',
      method: 'notifications/progress',
      params: { progressToken, progress: step },
    }),
  )
const tenMegabytes = 10 << 20

/** Writes `text` in pieces, one per `everyMs`; never ends where `text` is endless. */
function drip(response: ServerResponse, pieces: Iterable<string>, everyMs: number): void {
  const left = pieces[Symbol.iterator]()
  const timer = setInterval(() => {
    const { done, value } = left.next()
    if (!done) return void response.write(value)
    clearInterval(timer)
    response.end()
  }, everyMs)
  response.on('close', () => clearInterval(timer))
}

function* forever(text: string): Iterable<string> {
  for (;;) yield text
}

const inPieces = (text: string, size: number): string[] =>
  Array.from({ length: Math.ceil(text.length / size) }, (_, at) => text.slice(at * size, (at + 1) * size))

const unreachable = 'rpc 5020'
const garbage = 'rpc 5021'
const refused = 'rpc 5022'
const tooLarge = 'rpc 5023'
const late = 'rpc 5040'

/** Everything that a server does wrong, and some of what is merely unpleasant. */
export const vices: Readonly<Record<string, Vice>> = {
  none: { allowed: ['result'], do: (asked, response) => response.writeHead(200, json).end(asked.answer()) },
  streams: {
    allowed: ['result'],
    do: (asked, response) => {
      response.writeHead(200, stream)
      for (let step = 1; step <= 20; step++) response.write(progress(asked, step))
      response.end(event(asked.answer()))
    },
  },
  hangs: { allowed: [late], do: () => {} },
  'hangs after its headers': {
    allowed: [late],
    do: (_, response) => response.writeHead(200, json).flushHeaders(),
  },
  'hangs in mid-stream': {
    allowed: [late],
    do: (asked, response) => response.writeHead(200, stream).write(progress(asked, 1)),
  },
  'resets at once': { allowed: [unreachable], do: (_, response) => response.socket?.resetAndDestroy() },
  'resets in mid-body': {
    allowed: [unreachable],
    do: (asked, response) => {
      response.writeHead(200, { ...json, 'content-length': 10_000 })
      response.write(asked.answer(), () => response.socket?.resetAndDestroy())
    },
  },
  'resets in mid-stream': {
    allowed: [unreachable, garbage],
    do: (asked, response) => {
      response.writeHead(200, stream)
      response.write(progress(asked, 1), () => response.socket?.resetAndDestroy())
    },
  },
  'drips its answer': {
    allowed: ['result'],
    do: (asked, response) => {
      const text = asked.answer()
      response.writeHead(200, json)
      drip(response, inPieces(text, Math.ceil(text.length / 20)), 20)
    },
  },
  'drips for ever': {
    allowed: [late],
    do: (_, response) => {
      response.writeHead(200, json)
      drip(response, forever(' '), 50)
    },
  },
  'sends comments for ever': {
    allowed: [late],
    do: (_, response) => {
      response.writeHead(200, stream)
      drip(response, forever(': still here\n\n'), 50)
    },
  },
  'sends broken JSON': {
    allowed: [garbage],
    do: (_, response) => response.writeHead(200, json).end('{"jsonrpc":"2.0","id":'),
  },
  'sends something else': {
    allowed: [garbage],
    do: (_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>It works</h1>'),
  },
  'answers another id': {
    allowed: [garbage],
    do: (_, response) =>
      response.writeHead(200, json).end('{"jsonrpc":"2.0","id":987654321,"result":{"content":[]}}'),
  },
  'answers with neither result nor error': {
    allowed: [garbage],
    do: ({ id }, response) => response.writeHead(200, json).end(JSON.stringify({ jsonrpc: '2.0', id })),
  },
  'ends its stream without an answer': {
    allowed: [garbage],
    do: (asked, response) => response.writeHead(200, stream).end(progress(asked, 1)),
  },
  'cuts an event in half': {
    allowed: [garbage],
    do: (asked, response) => {
      const text = event(asked.answer())
      response.writeHead(200, stream).end(text.slice(0, text.length / 2))
    },
  },
  'sends events that are no messages': {
    allowed: [garbage],
    do: (_, response) => response.writeHead(200, stream).end('data: nope\n\ndata: [1,2]\n\n'),
  },
  'answers twice': {
    allowed: ['result'],
    do: (asked, response) =>
      response.writeHead(200, stream).end(event(asked.answer()) + event(asked.answer())),
  },
  'keeps its stream open after the answer': {
    allowed: ['result'],
    do: (asked, response) => response.writeHead(200, stream).write(event(asked.answer())),
  },
  'sends huge headers': {
    allowed: [unreachable, garbage],
    do: (_, response) => response.writeHead(200, { ...json, 'x-noise': 'x'.repeat(256 * 1024) }).end('{}'),
  },
  'says it is shorter than it is': {
    allowed: [unreachable, garbage],
    do: (asked, response) => {
      const text = asked.answer()
      // Written past Node, which would correct it.
      response.socket?.end(
        `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n${text}`,
      )
    },
  },
  'is no HTTP': {
    allowed: [unreachable, garbage],
    do: (_, response) => void response.socket?.end('220 mail.example ESMTP\r\n'),
  },
  'is broken inside': {
    allowed: [refused],
    do: (_, response) => response.writeHead(500, { 'content-type': 'text/plain' }).end('at main.js:1:1'),
  },
  redirects: {
    allowed: [refused],
    do: (_, response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
  },
  'answers 10 MB': {
    allowed: ['result'],
    do: (asked, response) => response.writeHead(200, json).end(asked.answer(tenMegabytes)),
  },
  'streams 10 MB': {
    allowed: ['result'],
    do: (asked, response) => response.writeHead(200, stream).end(event(asked.answer(tenMegabytes))),
  },
  'answers without an end': {
    allowed: [tooLarge],
    do: (_, response) => {
      response.writeHead(200, json)
      const chunk = ' '.repeat(1 << 20)
      const more = (): void => {
        while (!response.destroyed && response.write(chunk));
      }
      response.on('drain', more)
      more()
    },
  },
}

/** Ten megabytes each: few of them at once say enough. */
export const heavy: readonly string[] = ['answers 10 MB', 'streams 10 MB', 'answers without an end']
export const light: readonly string[] = Object.keys(vices).filter((name) => !heavy.includes(name))
