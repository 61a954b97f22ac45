import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, globSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { tlsValues } from '../../installer/host/units.ts'
import { proves } from '../requirements.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

t.test('the folders of the files are watched too, each once', async (t) => {
  proves(t, 'GW-CERT-03')
  const paths = (cert: string, key: string) =>
    tlsValues({ AEMBIT_TLS_CERT_CHAIN_PATH: cert, AEMBIT_TLS_PRIVATE_KEY_PATH: key })?.PATHS?.split('\n')
  const live = '/etc/letsencrypt/live/gw.example'
  t.same(paths(`${live}/fullchain.pem`, `${live}/privkey.pem`), [
    `PathChanged=${live}/fullchain.pem`,
    `PathChanged=${live}`,
    `PathChanged=${live}/privkey.pem`,
  ])
  t.same(paths('/a/100%/c.pem', '/b/k.pem'), [
    'PathChanged=/a/100%%/c.pem',
    'PathChanged=/a/100%%',
    'PathChanged=/b/k.pem',
    'PathChanged=/b',
  ])
})

t.test('a timer looks once an hour, and comes and goes with the watch', async (t) => {
  proves(t, 'GW-CERT-03')
  t.match(
    readFileSync(join(root, 'etc/systemd/aembit_mcp_gateway_tls.timer'), 'utf8'),
    /\[Timer\]\nOnCalendar=hourly\nRandomizedDelaySec=10m\n/,
  )
  const units = globSync('etc/systemd/aembit_mcp_gateway_tls.*', { cwd: root })
  t.equal(units.length, 3)
  const script = (name: string): string => readFileSync(join(root, 'installer/host', name), 'utf8')
  t.match(script('install'), "'aembit_mcp_gateway_tls.path aembit_mcp_gateway_tls.timer'")
  t.match(script('uninstall'), '$application"*.timer')
})

/** The two scripts of the unit, with credentials and a systemctl of the test's own. */
function stage(t: Test) {
  const dir = t.testdir({ from: {}, to: {}, bin: {} })
  const path = (...names: string[]): string => join(dir, ...names)
  for (const program of ['systemctl', 'systemd-run']) {
    writeFileSync(path('bin', program), `#!/bin/sh\necho "$*" >>${path('calls')}\n`)
    chmodSync(path('bin', program), 0o755)
  }
  const env = {
    PATH: `${path('bin')}:${process.env.PATH}`,
    CREDENTIALS_DIRECTORY: path('from'),
    RUNTIME_DIRECTORY: path('to'),
  }
  return {
    give: (name: string, text: string) => writeFileSync(path('from', `${name}.pem`), text),
    staged: (name: string) => readFileSync(path('to', `${name}.pem`), 'utf8'),
    inode: (name: string) => statSync(path('to', `${name}.pem`)).ino,
    /** What it does beyond its folder: reload the gateway, look again. */
    run: (): string => {
      writeFileSync(path('calls'), '')
      mkdirSync(path('to'), { recursive: true })
      for (const name of ['stage_tls', 'reload_if_active'])
        execFileSync(join(root, 'installer/host/libexec', name), { env })
      t.notOk(existsSync(path('to', '.changed')))
      const calls = readFileSync(path('calls'), 'utf8')
      const again = /--on-active=.* systemctl start aembit_mcp_gateway_tls/.test(calls)
      return [again ? 'again' : '', / reload /.test(calls) ? 'reload' : ''].join(' ').trim()
    },
  }
}

t.test('only what changed is brought to the gateway, and only then it reloads', async (t) => {
  proves(t, 'GW-CERT-03')
  const { give, staged, inode, run } = stage(t)
  give('cert_chain', 'one')
  give('private_key', 'key one')
  t.equal(run(), 'again reload')
  t.equal(staged('cert_chain') + staged('private_key'), 'onekey one')
  const before = [inode('cert_chain'), inode('private_key')]
  t.equal(run(), '', 'nothing has changed, and that was the look after it')
  t.same([inode('cert_chain'), inode('private_key')], before)
  t.equal(run(), 'again', 'something happened in the folder: what is to come may be missed')
  give('cert_chain', 'two')
  t.equal(run(), 'again reload')
  t.equal(staged('cert_chain') + staged('private_key'), 'twokey one')
  t.equal(inode('private_key'), before[1])
  t.equal(run(), '')
})
