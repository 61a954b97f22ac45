import type { Scene } from './scene.ts'

const pollMs = 200

/** Polls; throws with what was waited for. */
export async function until(what: string, check: () => Promise<boolean>, ms = 60_000): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await check().catch(() => false))) {
    if (Date.now() > deadline) throw new Error(`not within ${ms / 1000} s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, pollMs))
  }
}

/** Waits until the public endpoint answers as it must to a request without a token. */
export async function untilServing(scene: Scene): Promise<void> {
  const script = `fetch('https://localhost/mcp', { method: 'POST' }).then((r) => console.log(r.status), () => {})`
  await until('the gateway serves', async () => (await scene.node(script)) === '401')
}
