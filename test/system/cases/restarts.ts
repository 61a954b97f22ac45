import assert from 'node:assert/strict'
import type { Case } from '../case.ts'
import type { Window } from '../load.ts'
import type { Load, Scene } from '../scene.ts'
import { until } from '../waits.ts'

/**
 * What an operator does on a weekday, under load: 64 connections that are kept, 20 calls that stream. Nothing may fail.
 * Then what nobody wants: SIGKILL of each process, where only what was in flight in that very process may fail.
 */
const perWindow = 2_000
const inFlight = 64 + 20
const unit = 'aembit_mcp_gateway'

const line = ({ requests, streams, failed, p50Ms, p99Ms, gapMs, backMs, seconds }: Window): string =>
  `${requests} requests and ${streams} streams in ${seconds.toFixed(1)} s, ${failed} failed; ` +
  `p50 ${p50Ms} ms, p99 ${p99Ms} ms, longest silence ${gapMs} ms, first answer after ${backMs} ms`

let load: Load | undefined
let total = 0

/** Does it with the load on, and until `perWindow` more requests are answered. */
async function under(scene: Scene, work: () => Promise<unknown>): Promise<Window> {
  load ??= await scene.load()
  await load.until(200)
  await load.mark()
  await work()
  await load.until(perWindow)
  // Streams last two seconds: those that the event met end in this window.
  await new Promise((resolve) => setTimeout(resolve, 3_000))
  const window = await load.mark()
  total += window.requests
  return window
}

const unnoticed = (name: string, work: (scene: Scene) => Promise<unknown>): Case => ({
  name: `under load, ${name}: 0 failed requests`,
  run: async (scene, note) => {
    const window = await under(scene, () => work(scene))
    note(line(window))
    assert.deepEqual(window.failures, {})
    assert.ok(window.streams > 0)
  },
})

export const cases: readonly Case[] = [
  ...(['front', 'proxy', 'sync'] as const).map((role) =>
    unnoticed(`restart ${role}`, async (scene) => {
      const before = await scene.pids(role)
      await scene.box.sh(`${unit} restart ${role}`)
      assert.ok((await scene.pids(role)).some((pid) => !before.includes(pid)))
    }),
  ),
  unnoticed('a renewed certificate', async (scene) => {
    const before = await scene.serialServed()
    await scene.renewCertificate()
    assert.notEqual(scene.serialOnDisk(), before)
    await until(
      'the new certificate is served',
      async () => (await scene.serialServed()) === scene.serialOnDisk(),
    )
  }),
  unnoticed('a reload with another setting', async (scene) => {
    await scene.box.sh('echo AEMBIT_MAX_BODY_BYTES=2097152 >> /etc/aembit_mcp_gateway/gateway.env')
    await scene.box.sh(`systemctl reload ${unit}`)
  }),
  unnoticed('systemctl restart', (scene) => scene.box.sh(`systemctl restart ${unit}`)),
  unnoticed('restart of the control plane', (scene) =>
    scene.box.sh('systemctl restart aembit_control_plane'),
  ),
  unnoticed('an upgrade', async (scene) => {
    const { code, stderr } = await scene.install('second')
    assert.equal(code, 0, stderr)
  }),
  ...(['front', 'proxy', 'sync', 'supervisor'] as const).map(
    (role): Case => ({
      name: `under load, kill -9 ${role}: only what was in flight in it fails`,
      run: async (scene, note) => {
        const [pid] = await scene.pids(role)
        const window = await under(scene, () => scene.box.sh(`kill -9 ${pid}`))
        note(line(window))
        for (const [failure, count] of Object.entries(window.failures)) note(`${count} × ${failure}`)
        assert.ok(window.failed <= (role === 'sync' ? 0 : inFlight), `${window.failed} failed`)
        assert.ok(window.backMs !== null)
        await until('ready', async () => (await scene.status()).ready)
      },
    }),
  ),
  {
    name: 'the load as a whole',
    run: async (_scene, note) => {
      await load?.end()
      load = undefined
      note(`${total} requests in all windows`)
      assert.ok(total >= 20_000)
    },
  },
]
