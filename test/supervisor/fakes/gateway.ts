import { fileURLToPath } from 'node:url'
import { runGateway } from '../../../services/supervisor/run.ts'
import { defaultLimits } from '../../../services/supervisor/slot.ts'
import type { Clock } from '../../../shared/clock.ts'

/** A clock on which every wait is over at once. */
let passed = 0
const hurried: Clock = {
  now: () => Date.now() + passed,
  sleep: async (ms) => {
    passed += ms
  },
}

/** The real supervisor and front, with proxies and sync of few words, and with limits of FAKE_LIMITS. */
const script = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
process.exit(
  await runGateway({
    env: process.env,
    ...(process.env.FAKE_HURRY ? { clock: hurried } : {}),
    scripts: {
      front: process.env.FAKE_FRONT ? script('slow-front.ts') : script('../../../services/front/main.ts'),
      proxy: script('proxy.ts'),
      sync: script('sync.ts'),
      'stdio-adapter': script('../../../services/stdio-adapter/main.ts'),
    },
    // Children inherit few variables; the fakes learn their folder from a file that Node.js reads.
    confine: () => [`--env-file=${process.env.FAKE_DIR}/env`],
    limits: { ...defaultLimits, ...JSON.parse(process.env.FAKE_LIMITS ?? '{}') },
  }),
)
