import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { Farewell } from '../../../services/proxy/farewell.ts'
import { proves } from '../../requirements.ts'

/** Connections of two fronts, told apart by the client's port. */
async function serve(t: Test) {
  const held: ServerResponse[] = []
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    if (request.url === '/hold') held.push(response)
    else response.end('ok')
  }
  const server = createServer(answer)
  const farewell = new Farewell(server)
  server.on('checkContinue', answer)
  let front = 1
  server.on('connection', (socket: Socket) => farewell.add(socket, front))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const open: Socket[] = []
  t.teardown(() => {
    farewell.close()
    for (const socket of open) socket.destroy()
    server.closeAllConnections()
    server.close()
  })
  const dial = async (of: number) => {
    front = of
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
    open.push(socket)
    const closed = once(socket, 'close')
    const ask = async (path = '/', more = ''): Promise<string> => {
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`)
      if (path === '/hold') while (held.length === 0) await new Promise((resolve) => setTimeout(resolve, 2))
      const [bytes] = path === '/hold' ? [''] : await once(socket, 'data')
      return String(bytes)
    }
    await ask()
    return { socket, ask, closed }
  }
  return { farewell, held, dial }
}

t.test('clients of a front that drains hear it with their answer; others do not', async (t) => {
  const { farewell, held, dial } = await serve(t)
  const [going, busy, staying] = [await dial(7), await dial(7), await dial(8)]
  await busy.ask('/hold')
  farewell.retire(7)
  t.match(await going.ask(), /connection: close/i)
  const answer = once(busy.socket, 'data')
  held[0]?.end('late')
  t.match(String(await answer), /connection: close/i, 'also with the answer that was being made')
  t.match(await staying.ask(), /connection: keep-alive/i)
  await Promise.all([going.closed, busy.closed])
})

t.test('one that says nothing is closed after a while, and one of another front is not', async (t) => {
  const { farewell, dial } = await serve(t)
  const [silent, other] = [await dial(7), await dial(8)]
  farewell.retire(7)
  await silent.closed
  t.match(await other.ask(), /200 OK/)
})

t.test('one whose request came with Expect: 100-continue is not silent while it waits', async (t) => {
  proves(t, 'GW-RESTART-04', 'HTTP-13')
  const { farewell, held, dial } = await serve(t)
  const [waiting, silent] = [await dial(7), await dial(7)]
  await waiting.ask('/hold', 'Expect: 100-continue\r\n')
  farewell.retire(7)
  await silent.closed
  await new Promise((resolve) => setTimeout(resolve, 600))
  const answer = once(waiting.socket, 'data')
  held[0]?.end('late')
  t.match(String(await answer), /connection: close.*late$/is)
})

t.test('while nobody goes, a sweep closes what is idle at once', async (t) => {
  const { farewell, dial } = await serve(t)
  const idle = await dial(7)
  farewell.sweep()
  await idle.closed
  t.pass('closed')
})
