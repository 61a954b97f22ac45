import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** The real front, once a file `go` is in the folder of FAKE_DIR. */
while (!existsSync(join(process.env.FAKE_DIR ?? '', 'go'))) await sleep(10)
await import('../../../services/front/main.ts')
