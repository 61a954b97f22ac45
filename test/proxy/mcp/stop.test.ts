import { connect, createServer, type Socket } from 'node:net'
import t from 'tap'
import { pause, Stop, within } from '../../../services/proxy/mcp/stop.ts'
import type { Fault } from '../../../shared/faults.ts'
import { proves } from '../../requirements.ts'

/** Nothing else runs meanwhile: no timer, no socket. */
const busy = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)

t.test('a limit does not take what arrived while this process was busy for silence', async (t) => {
  proves(t, 'MCP-TIME-01')
  const server = createServer().listen(0, '127.0.0.1')
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve))
  await new Promise((resolve) => server.once('listening', resolve))
  const near = connect((server.address() as { port: number }).port, '127.0.0.1')
  await new Promise((resolve) => near.once('connect', resolve))
  const far = await accepted
  t.teardown(() => {
    near.destroy()
    far.destroy()
    server.close()
  })
  const answer = new Promise<string>((resolve) => near.once('data', (data) => resolve(String(data))))
  const stop = new Stop().limit(50)
  // In the kernel at once, long before the limit; but it is read long after it.
  far.write('the answer')
  busy(200)
  t.equal(await within(answer, stop), 'the answer')
})

t.test('a limit stops what brings nothing; one that was moved, held or ended does not', async (t) => {
  // Limits do not keep a process alive, and nothing else here does.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  const code = (stop: Stop): Promise<string> =>
    within(new Promise<never>(() => {}), stop).catch((error: Fault) => error.code)
  t.equal(await code(new Stop().limit(1)), 'upstream.timeout')
  const over = (change: (stop: Stop) => void): Promise<boolean> => {
    const stop = new Stop().limit(5)
    // Both are due when timers run next, so the change comes from within the turn in which the limit expires: the latest
    // moment there is.
    setTimeout(() => change(stop), 5)
    busy(20)
    return pause(30, new Stop()).then(() => stop.reason !== undefined)
  }
  t.equal(await over((stop) => stop.limit(60_000).off(() => {})), false, 'moved')
  t.equal(await over((stop) => stop.hold()), false, 'held')
  t.equal(await over((stop) => stop.end()), false, 'ended')
})
