import assert from 'node:assert/strict'
import type { Case } from '../case.ts'
import type { Window } from '../load.ts'
import type { Load, Scene } from '../scene.ts'
import { until } from '../waits.ts'

/**
 * What an operator does on a weekday, under load: 64 connections that are kept, 8 over HTTP/2, 20 calls that stream.
 * Nothing may fail. Then what nobody wants: SIGKILL of each process, where only what was in flight in that very process
 * may fail, each with a clear error, and service is back within the second that the acceptance names.
 */
const perWindow = 2_000
const backWithinMs = 1_000
const unit = 'aembit_mcp_gateway'

const line = ({ requests, streams, failed, p50Ms, p99Ms, gapMs, seconds }: Window): string =>
  `${requests} requests and ${streams} streams in ${seconds.toFixed(1)} s, ${failed} failed; ` +
  `p50 ${p50Ms} ms, p99 ${p99Ms} ms, longest silence ${gapMs} ms`

let load: Load | undefined
let total = 0

/** Does it with the load on, and until `perWindow` more requests are answered. */
async function under(scene: Scene, work: (load: Load) => Promise<unknown>): Promise<Window> {
  load ??= await scene.load()
  await load.until(200)
  await load.mark()
  await work(load)
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

/** What a client of each process reads when it dies under its request: docs/operators.md. */
const told: Readonly<Record<string, RegExp>> = {
  front: /other side closed|ECONNRESET|socket hang up|terminated|HTTP\/2 stream closed/,
  proxy:
    /^(stream )?(stream: )?502 .*request\.lost|^stream .*(other side closed|terminated)|HTTP\/2 stream closed/,
  // No request is ever in them: sync's last words on policy and credentials are in proxy, and the supervisor's children serve on.
  sync: /^never$/,
  supervisor: /^never$/,
}

const killed = (role: string): Case => ({
  name: `under load, kill -9 ${role}: only what was in flight in it fails, back in under 1 s`,
  run: async (scene, note) => {
    await until('whole', async () => {
      const { ready, spares } = await scene.status()
      return ready && spares.length === 3
    })
    const pid = await scene.pidOf(role)
    const window = await under(scene, (load) => load.kill(pid))
    const { inFlight, failedLater, backMs } = window.killed ?? { inFlight: 0, failedLater: 0, backMs: null }
    note(line(window))
    note(`${inFlight} in flight; the first answer to a request after it: ${backMs} ms`)
    for (const [failure, count] of Object.entries(window.failures)) note(`${count} × ${failure}`)
    assert.ok(window.failed <= inFlight, `${window.failed} failed, ${inFlight} were in flight`)
    assert.equal(failedLater, 0, 'a request that began after it failed')
    for (const failure of Object.keys(window.failures)) assert.match(failure, told[role] ?? /^never$/)
    assert.ok(backMs !== null && backMs < backWithinMs, `back after ${backMs} ms`)
    await until('ready', async () => (await scene.status()).ready)
  },
})

const renewal = (name: string, renew: (scene: Scene) => Promise<void>): Case =>
  unnoticed(name, async (scene) => {
    const before = await scene.serialServed()
    await renew(scene)
    assert.notEqual(scene.serialOnDisk(), before)
    await until(
      'the new certificate is served',
      async () => (await scene.serialServed()) === scene.serialOnDisk(),
    )
  })

export const cases: readonly Case[] = [
  ...(['front', 'proxy', 'sync'] as const).map((role) =>
    unnoticed(`restart ${role}`, async (scene) => {
      const before = await scene.pidOf(role)
      await scene.box.sh(`${unit} restart ${role}`)
      assert.notEqual(await scene.pidOf(role), before)
    }),
  ),
  renewal('a renewed certificate', (scene) => scene.renewCertificate()),
  renewal('a certificate that becomes a symlink', (scene) => scene.relinkCertificate()),
  renewal('a symlink to the certificate that is replaced', (scene) => scene.relinkCertificate()),
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
  ...(['front', 'proxy', 'sync', 'supervisor'] as const).map(killed),
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
