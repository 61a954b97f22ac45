import { test } from 'tap'
import { roleOf } from '../../../services/control-plane/api/role-tokens.ts'
import { createKillSwitch } from '../../../services/control-plane/fleet/kill-switch.ts'
import { proves } from '../../requirements.ts'
import { type Plane, signIn, startPlane, tokenOf } from '../fleet/credential-rig.ts'

test('a token for the administration API carries its role there, and no other token of ours does', async (t) => {
  proves(t, 'CRED-52')
  const plane: Plane = await startPlane('https://server.example/mcp')
  t.teardown(() => plane.close())

  const idToken = { type: 'oidc-id-token', subject: 'x' }
  const claim = { key: 'role_id', value: 'administrator' }
  await plane.apply({
    serverWorkloads: ['auditor', 'rsa', 'elsewhere'].map((id) => ({ id, url: `https://${id}.example/mcp` })),
    credentialProviders: [
      { id: 'auditor', type: 'aembit-access-token', roleId: 'auditor' },
      { id: 'rsa', ...idToken, audience: 'https://x.example', customClaims: [claim], algorithmType: 'ES256' },
      { id: 'elsewhere', ...idToken, audience: 'https://y.example' },
    ],
    accessPolicies: [
      { id: 'in', client: 'agents', server: 'gateway' },
      ...['auditor', 'rsa', 'elsewhere'].map((id) => ({
        id,
        server: id,
        trustProviders: ['staff'],
        credentialProvider: id,
      })),
    ],
  })
  await signIn(plane, 'ann')
  const role = async (id: string) =>
    roleOf(plane.snapshots, `Bearer ${tokenOf(await plane.ask('ann', undefined, id))}`)
  t.equal(await role('auditor'), 'auditor')
  t.equal(await role('rsa'), undefined, 'another audience, whatever it claims')
  t.equal(await role('elsewhere'), undefined)
  t.equal(await roleOf(plane.snapshots, 'Bearer x.y.z'), undefined)
  t.equal(await roleOf(plane.snapshots, undefined), undefined)
  const good = tokenOf(await plane.ask('ann', undefined, 'auditor'))
  t.equal(await roleOf(plane.snapshots, `Bearer ${good.slice(0, -4)}AAAA`), undefined, 'changed')
})

test('a role ends with the kill switch, and with what the configuration says of its provider', async (t) => {
  proves(t, 'CRED-52')
  const plane: Plane = await startPlane('https://server.example/mcp')
  t.teardown(() => plane.close())
  const admin = { id: 'admin', type: 'aembit-access-token', roleId: 'administrator' }
  const config = (credentialProvider: Record<string, unknown>, second = 'bare') => ({
    serverWorkloads: ['admin', 'bare'].map((id) => ({ id, url: `https://${id}.example/mcp` })),
    credentialProviders: [credentialProvider, { id: 'bare', type: 'none' }],
    accessPolicies: [
      { id: 'in', client: 'agents', server: 'gateway' },
      { id: 'admin', server: 'admin', credentialProvider: second },
    ],
  })
  await plane.apply(config(admin, 'admin'))
  await signIn(plane, 'ann')
  const bearer = `Bearer ${tokenOf(await plane.ask('ann', undefined, 'admin'))}`
  const role = () => roleOf(plane.snapshots, bearer)
  t.equal(await role(), 'administrator')

  const killSwitch = createKillSwitch(plane.db, plane.clock)
  const { entry } = killSwitch.block('token', bearer.slice(7), 'leaked')
  await plane.snapshots.refresh()
  t.equal(await role(), undefined, 'named by the kill switch')
  killSwitch.revert(entry.id)
  await plane.snapshots.refresh()
  t.equal(await role(), 'administrator')

  await plane.apply(config({ ...admin, roleId: 'auditor' }))
  t.equal(await role(), 'auditor', 'its provider was demoted')
  await plane.apply(config({ ...admin, id: 'other' }))
  t.equal(await role(), undefined, 'its provider is gone')
  await plane.apply(config({ id: 'admin', type: 'none' }))
  t.equal(await role(), undefined, 'its provider is of another type')
  await plane.apply(config({ ...admin, roleId: 'auditor' }, 'admin'))
  const lesser = `Bearer ${tokenOf(await plane.ask('ann', undefined, 'admin'))}`
  await plane.apply(config(admin))
  t.equal(await roleOf(plane.snapshots, lesser), 'auditor', 'a promotion is for new tokens')
})

test('no configured token of ours may be for the administration API or the gateway', async (t) => {
  const plane: Plane = await startPlane('https://server.example/mcp')
  t.teardown(() => plane.close())
  for (const audience of [`${plane.origin}/mcp`, `${plane.origin}/mcp/`, `${plane.origin}/api`]) {
    await t.rejects(
      plane.apply({
        credentialProviders: [{ id: 'cp', type: 'oidc-id-token', subject: 'x', audience }],
        accessPolicies: [],
      }),
      { code: 'config.invalid' },
      audience,
    )
  }
})
