import { once } from 'node:events'
import { appendFile, copyFile, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import type { Report } from '../../shared/ipc/contract.ts'
import { proves } from '../requirements.ts'
import { makeCertificate, type TestCertificate } from '../supervisor/certificates.ts'
import { type RunningFront, startFront } from './rig.ts'

type Told = { status: string; detail: string | undefined }

/** A front on a pair of files, and what it says of them one after the other. */
async function start(t: Test, live: Pick<TestCertificate, 'certChainPath' | 'privateKeyPath'>) {
  const front = await startFront({ source: 'files', ...live }, [])
  t.teardown(() => front.stop())
  let seen = 0
  /** The next word on the certificate that fits. */
  const told = async (fits: (said: Told) => boolean): Promise<Told> => {
    const said = ({ status, fault }: Extract<Report<'front'>, { type: 'check' }>): Told => ({
      status,
      detail: fault?.detail,
    })
    const found = await front.report(
      'check',
      (report) =>
        front.reports.indexOf(report) >= seen && report.check === 'front.certificate' && fits(said(report)),
    )
    seen = front.reports.indexOf(found) + 1
    return said(found)
  }
  return { front, told }
}

async function servedBy({ port }: RunningFront): Promise<string | undefined> {
  const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const { CN } = socket.getPeerCertificate().subject
  socket.destroy()
  return [CN].flat()[0]
}

const good = ({ status, detail }: Told): boolean => status === 'running' && detail === undefined
const refused = ({ detail }: Told): boolean => detail !== undefined

t.test('a pair that is written over in place', async (t) => {
  proves(t, 'GW-CERT-01')
  const dir = t.testdir()
  const [first, second] = [makeCertificate(dir, 'first'), makeCertificate(dir, 'second')]
  const live = { certChainPath: join(dir, 'live.crt'), privateKeyPath: join(dir, 'live.key') }
  await copyFile(first.certChainPath, live.certChainPath)
  await copyFile(first.privateKeyPath, live.privateKeyPath)
  const { front, told } = await start(t, live)
  await told(good)
  t.equal(await servedBy(front), 'first')

  await copyFile(second.certChainPath, live.certChainPath)
  t.match(await told(refused), {
    status: 'running',
    detail: /is not the key of the certificate .* the one before is served/,
  })
  t.equal(await servedBy(front), 'first')
  await copyFile(second.privateKeyPath, live.privateKeyPath)
  await told(good)
  t.equal(await servedBy(front), 'second')

  // Its writer died in the middle of the chain.
  await appendFile(live.certChainPath, first.pem.slice(0, 200))
  t.match(await told(refused), { status: 'running', detail: /damaged chain.* the one before is served/ })
  t.equal(await servedBy(front), 'second')
  await writeFile(live.certChainPath, second.pem)
  await told(good)

  const ended = makeCertificate(dir, 'ended', { notAfter: new Date(Date.now() - 1_000) })
  await copyFile(ended.certChainPath, live.certChainPath)
  await copyFile(ended.privateKeyPath, live.privateKeyPath)
  t.match(await told(refused), { status: 'running', detail: /expired on .* the one before is served/ })
  t.equal(await servedBy(front), 'second')
})

t.test(
  'a pair that is swapped as one link, as certbot and Kubernetes do; rights that are lost',
  async (t) => {
    proves(t, 'GW-CERT-01')
    const dir = t.testdir()
    for (const name of ['first', 'second']) {
      const { certChainPath, privateKeyPath } = makeCertificate(dir, name)
      await mkdir(join(dir, `..${name}`))
      await rename(certChainPath, join(dir, `..${name}`, 'tls.crt'))
      await rename(privateKeyPath, join(dir, `..${name}`, 'tls.key'))
    }
    const point = async (to: string): Promise<void> => {
      await symlink(`..${to}`, join(dir, '..data.new'))
      await rename(join(dir, '..data.new'), join(dir, '..data'))
    }
    await point('first')
    const live = { certChainPath: join(dir, 'tls.crt'), privateKeyPath: join(dir, 'tls.key') }
    await symlink('..data/tls.crt', live.certChainPath)
    await symlink('..data/tls.key', live.privateKeyPath)
    const { front, told } = await start(t, live)
    await told(good)
    const swapped = Date.now()
    await point('second')
    while ((await servedBy(front)) !== 'second') {
      if (Date.now() - swapped > 30_000) throw new Error('the new pair is not served')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    t.pass('served without a signal')

    // A folder that may not be entered any more, in a way that stops root too.
    await rename(join(dir, '..data'), join(dir, '..kept'))
    await symlink('..data', join(dir, '..data'))
    t.match(await told(refused), { status: 'running', detail: /can not be read \(ELOOP\)/ })
    t.equal(await servedBy(front), 'second', 'what is in memory goes on')
    await rename(join(dir, '..kept'), join(dir, '..data'))
    await told(good)
  },
)

t.test(
  'a front that starts with a pair that has ended serves it, fails its check, and takes the next',
  async (t) => {
    proves(t, 'GW-CERT-02')
    const dir = t.testdir()
    const ended = makeCertificate(dir, 'ended', { notAfter: new Date(Date.now() - 1_000) })
    const next = makeCertificate(dir, 'next')
    const { front, told } = await start(t, ended)
    t.match(await told(refused), { status: 'failing', detail: /the certificate expired on/ })
    t.equal(await servedBy(front), 'ended')
    await writeFile(ended.privateKeyPath, await readFile(next.privateKeyPath))
    await writeFile(ended.certChainPath, next.pem)
    await told(good)
    t.equal(await servedBy(front), 'next')
  },
)
