import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { openGeoIp } from '../../../shared/geoip.ts'
import { createLogger } from '../../../shared/log.ts'
import { proves } from '../../requirements.ts'
import { writeMmdb } from '../../rig/mmdb.ts'

const log = createLogger('test', 'off')

t.test('addresses of either family, in whatever form', async (t) => {
  proves(t, 'POLICY-PLACE-03')
  const dir = await mkdtemp(join(tmpdir(), 'geoip-'))
  const path = join(dir, 'places.mmdb')
  await writeFile(
    path,
    writeMmdb([
      { network: '192.0.2.0/25', country: 'DE', subdivisions: ['BE'] },
      { network: '192.0.2.128/25', country: 'US', subdivisions: ['CA', '037'] },
      { network: '2001:db8::/32', country: 'FR' },
    ]),
  )
  const geoip = await openGeoIp(path, log)
  t.teardown(async () => {
    geoip.close()
    await rm(dir, { recursive: true })
  })
  t.same(geoip.locate('192.0.2.1'), { country: 'DE', subdivisions: ['BE'] })
  t.same(geoip.locate('::ffff:192.0.2.1'), { country: 'DE', subdivisions: ['BE'] })
  t.same(geoip.locate('192.0.2.200'), { country: 'US', subdivisions: ['CA', '037'] })
  t.same(geoip.locate('2001:db8:1::7'), { country: 'FR', subdivisions: [] })
  for (const nowhere of ['198.51.100.1', '2001:db9::1', '', 'host', '192.0.2', '192.0.2.1:80'])
    t.equal(geoip.locate(nowhere), undefined, `"${nowhere}"`)

  await writeFile(`${path}.new`, writeMmdb([{ network: '192.0.2.0/24', country: 'NL' }]))
  await rename(`${path}.new`, path)
  while (geoip.locate('192.0.2.1')?.country !== 'NL') await new Promise((done) => setTimeout(done, 20))
  t.pass('a database that was replaced is read by itself')
  await writeFile(path, 'no database')
  await t.rejects(geoip.reload(), { code: 'config.invalid' })
  t.same(geoip.locate('192.0.2.1'), { country: 'NL', subdivisions: [] }, 'a bad one is not taken')
})

t.test('a file that is none is told with its path and what to do', async (t) => {
  proves(t, 'POLICY-PLACE-04')
  await t.rejects(openGeoIp('/nowhere/places.mmdb', log), {
    code: 'config.invalid',
    detail: /\/nowhere\/places\.mmdb can not be read .*supply a MaxMind-format file/,
  })
  await t.rejects(openGeoIp(import.meta.filename, log), { code: 'config.invalid' })
})
