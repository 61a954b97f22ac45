import { execFile } from 'node:child_process'
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { proves } from '../requirements.ts'
import { look } from '../rig/scrape.ts'
import { makeCertificate } from './certificates.ts'
import { startGateway } from './rig.ts'

const cli = fileURLToPath(new URL('../../services/supervisor/cli.ts', import.meta.url))

const checked = (env: Record<string, string>): Promise<{ failed: boolean; err: string }> =>
  new Promise((resolve) => {
    execFile(process.execPath, [cli, '--check'], { env }, (error, _out, err) =>
      resolve({ failed: error?.code === 2, err }),
    )
  })

t.test('a gateway starts with a certificate that has ended, says so, and takes the next', async (t) => {
  proves(t, 'GW-START-10')
  const dir = t.testdir()
  const ended = makeCertificate(dir, 'ended', { notAfter: new Date(Date.now() - 60_000) })
  const other = makeCertificate(dir, 'other', { notAfter: new Date(Date.now() - 60_000) })
  const next = makeCertificate(dir, 'next')
  const heard = join(dir, 'heard')
  writeFileSync(heard, '')
  writeFileSync(join(dir, 'systemd-notify'), `#!/bin/sh\necho "$@" >> ${heard}\n`)
  chmodSync(join(dir, 'systemd-notify'), 0o755)
  const file = join(dir, 'gateway.env')
  const settings = (pair: typeof ended): string =>
    `AEMBIT_TLS_CERT_CHAIN_PATH=${pair.certChainPath}\nAEMBIT_TLS_PRIVATE_KEY_PATH=${pair.privateKeyPath}\n`
  writeFileSync(file, settings(ended))
  const gateway = startGateway({
    env: { AEMBIT_ENV_FILE: file, PATH: `${dir}:${process.env.PATH}`, NOTIFY_SOCKET: join(dir, 'n') },
  })
  t.teardown(() => gateway.stop())

  const { reasons } = await gateway.line(
    ({ msg, level, reasons }) => msg === 'not ready' && level === 'warn' && /expired/.test(String(reasons)),
  )
  t.match(reasons, [/^front\.certificate: failing \(the certificate expired on /])
  t.equal((await gateway.get()).status, 200, 'it serves')
  t.match(await look(gateway.metricsPort, '/readyz'), { status: 503, body: /expired/ })
  while (!/^READY=1 STATUS=not ready: front\.certificate/m.test(readFileSync(heard, 'utf8')))
    await new Promise((resolve) => setTimeout(resolve, 20))
  const given = Object.fromEntries(Object.entries(gateway.env).filter(([key]) => !key.startsWith('FAKE_')))
  t.match(await checked(given), { failed: true, err: /CERT_CHAIN_PATH: .* expired on/ })

  t.same((await gateway.operator('/v1/reload')).body, { problems: [] }, 'it holds up no other setting')
  writeFileSync(file, settings(other))
  const refused = await gateway.operator('/v1/reload')
  t.match(JSON.stringify(refused.body), /expired on/, 'another pair has to be good')
  writeFileSync(file, settings(ended))

  copyFileSync(next.privateKeyPath, ended.privateKeyPath)
  copyFileSync(next.certChainPath, ended.certChainPath)
  await gateway.ready()
  t.equal((await look(gateway.metricsPort, '/readyz')).status, 200)
})
