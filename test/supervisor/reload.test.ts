import { once } from 'node:events'
import { copyFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { connect, type TLSSocket } from 'node:tls'
import t from 'tap'
import { proves } from '../requirements.ts'
import { makeCertificate } from './certificates.ts'
import { type GatewayRig, startGateway } from './rig.ts'

async function dial(port: number): Promise<TLSSocket> {
  const client = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
  await once(client, 'secureConnect')
  return client
}

async function commonName(port: number): Promise<unknown> {
  const client = await dial(port)
  const name = client.getPeerCertificate().subject?.CN
  client.destroy()
  return name
}

const problems = async (gateway: GatewayRig): Promise<string[]> =>
  ((await gateway.operator('/v1/reload')).body as { problems: string[] }).problems

t.test('a reload swaps the certificate under open connections, and refuses a bad one', async (t) => {
  proves(t, 'GW-RELOAD-01')
  const gateway = startGateway()
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const { certChainPath, privateKeyPath } = gateway.certificate
  t.equal(await commonName(gateway.port), 'first')
  const open = await dial(gateway.port)

  const second = makeCertificate(gateway.dir, 'second')
  copyFileSync(second.certChainPath, certChainPath)
  t.match(
    await problems(gateway),
    [/AEMBIT_TLS_PRIVATE_KEY_PATH .* is not the key of/],
    'the key does not fit yet',
  )
  t.equal(await commonName(gateway.port), 'first')
  t.match((await gateway.status()).lastReload?.problems, [/is not the key of/])

  copyFileSync(second.privateKeyPath, privateKeyPath)
  gateway.process.kill('SIGHUP')
  await gateway.line(({ msg }) => msg === 'configuration reloaded')
  t.equal(await commonName(gateway.port), 'second')
  open.write('GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')
  t.match(await text(open), /^HTTP\/1.1 200/, 'an open connection goes on')
  t.same((await gateway.status()).lastReload?.problems, [])
})

t.test(
  'settings of the env file: proxies are replaced where theirs changed, fixed ones are refused',
  async (t) => {
    const dir = t.testdir({ env: 'AEMBIT_MAX_BODY_BYTES=2048\n' })
    const file = join(dir, 'env')
    const gateway = startGateway({ env: { AEMBIT_ENV_FILE: file } })
    t.teardown(() => gateway.stop())
    await gateway.ready()
    const limits = async (): Promise<unknown> => {
      const { config } = JSON.parse((await gateway.get()).body) as {
        config: { limits: { bodyBytes: number } }
      }
      return config.limits.bodyBytes
    }
    t.equal(await limits(), 2048)
    const before = await gateway.pid('proxy-0')
    const sync = await gateway.pid('sync')

    writeFileSync(file, 'AEMBIT_MAX_BODY_BYTES=4096\n')
    t.same(await problems(gateway), [])
    t.equal(await limits(), 4096)
    t.not(await gateway.pid('proxy-0'), before)
    t.equal(await gateway.pid('sync'), sync, 'nothing of sync changed')

    writeFileSync(file, 'AEMBIT_MAX_BODY_BYTES=1\nAEMBIT_HTPS_PORT=1\n')
    t.match(await problems(gateway), [/AEMBIT_MAX_BODY_BYTES must be/, /did you mean AEMBIT_HTTPS_PORT/])
    writeFileSync(file, 'AEMBIT_MAX_BODY_BYTES=8192\nAEMBIT_PROXY_WORKERS=2\n')
    t.same(await problems(gateway), [
      'AEMBIT_PROXY_WORKERS can not change while running; restart the gateway',
    ])
    t.equal(await limits(), 4096, 'nothing is half applied')
  },
)

t.test('where a successor fails, everything goes back to the running settings', async (t) => {
  proves(t, 'GW-RELOAD-02')
  const dir = t.testdir({ env: 'AEMBIT_MAX_BODY_BYTES=2048\n' })
  const file = join(dir, 'env')
  const gateway = startGateway({ env: { AEMBIT_ENV_FILE: file }, limits: { startMs: 1_000 } })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const before = await gateway.pid('proxy-0')
  writeFileSync(join(gateway.dir, 'flags/unready'), '')
  writeFileSync(file, 'AEMBIT_MAX_BODY_BYTES=4096\n')
  t.match(await problems(gateway), [/proxy-0 did not become ready/])
  t.equal(await gateway.pid('proxy-0'), before)
  t.match(JSON.parse((await gateway.get()).body), { config: { limits: { bodyBytes: 2048 } } })
})
