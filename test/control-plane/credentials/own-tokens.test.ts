import { test } from 'tap'
import { proves } from '../../requirements.ts'
import { startPlane } from '../fleet/credential-rig.ts'
import { ask, bearerOf, email, groups, headerOf, planeWith } from './provider-rig.ts'
import { verifyOwn } from './stand-ins.ts'

test('an ID token of ours: verified from the issuer alone, about the person, never for another', async (t) => {
  proves(t, 'CRED-24')
  for (const algorithmType of ['RS256', 'ES256']) {
    const plane = await planeWith(t, {
      type: 'oidc-id-token',
      subject: `user:${email}`,
      subjectType: 'dynamic',
      audience: 'https://server.example',
      algorithmType,
      lifetime: '10m',
      customClaims: [
        { key: 'tier', value: 'gold' },
        { key: 'groups', value: groups, valueType: 'dynamic' },
      ],
      header: { name: 'X-Identity' },
    })
    const [ann, bob] = [await ask(plane), await ask(plane, 'bob')].map((answer) =>
      headerOf(answer).replace('X-Identity: ', ''),
    )
    const claims = await verifyOwn(ann!, plane.origin, 'https://server.example')
    t.match(claims, { sub: 'user:ann@example.com', tier: 'gold', groups: 'staff', alg: algorithmType })
    t.equal(claims.exp! - claims.iat!, 600)
    t.equal((await verifyOwn(bob!, plane.origin, 'https://server.example')).sub, 'user:bob@example.com')
    t.equal(headerOf(await ask(plane)), `X-Identity: ${ann}`, 'the same while it lives')
  }
})

test('a JWT-SVID: the subject is a SPIFFE ID, or there is no token', async (t) => {
  proves(t, 'CRED-98')
  const of = (subject: string) =>
    planeWith(t, { type: 'jwt-svid-token', subject, subjectType: 'dynamic', audience: 'crm' })
  const plane = await of(`spiffe://example.com/groups/${groups}`)
  const claims = await verifyOwn(bearerOf(await ask(plane)), plane.origin, 'crm')
  t.equal(claims.sub, 'spiffe://example.com/groups/staff')
  const refused = await ask(await of(`spiffe://example.com/people/${email}`))
  t.match(refused, { kind: 'denied', by: 'provider', reason: 'subject_invalid' }, 'an @ is in no SPIFFE ID')
  for (const subject of [
    'ann',
    'spiffe://example.com',
    'spiffe://Example.com/x',
    'spiffe://example.com/a/../b',
    'spiffe://example.com/a//b',
    'spiffe://example.com/a/',
  ]) {
    const provider = { id: 'cp', type: 'jwt-svid-token', subject, audience: 'crm' }
    const refusal = await plane.apply({ credentialProviders: [provider] }).catch((error) => error)
    t.match(String((refusal as { detail?: string } | undefined)?.detail), /SPIFFE ID/, subject)
  }
})

test('a subject that is not exactly one value is refused', async (t) => {
  proves(t, 'CRED-25')
  const plane = await planeWith(t, {
    type: 'oidc-id-token',
    subject: '$' + '{oidc.identityToken.decode.payload.department}',
    subjectType: 'dynamic',
    audience: 'x',
  })
  t.match(await ask(plane), { kind: 'denied', by: 'provider', reason: 'subject_unresolved' })
})

test('expressions about the agent’s host, which no MCP client attests, are refused with the reason', async (t) => {
  proves(t, 'CRED-95')
  const plane = await startPlane('https://server.example/mcp')
  t.teardown(() => plane.close())
  const refusal = async (subject: string): Promise<string> => {
    const provider = { id: 'cp', type: 'oidc-id-token', audience: 'x', subject, subjectType: 'dynamic' }
    try {
      await plane.apply({ credentialProviders: [provider] })
      return 'taken'
    } catch (error) {
      return String((error as { detail?: string }).detail)
    }
  }
  for (const name of ['os.environment.HOSTNAME', 'aws.account', 'aws.role']) {
    t.match(await refusal(`x-$\{${name}}`), /subject[\s\S]*does not attest/, name)
  }
  t.match(await refusal(`$\{nonsense}`), /is not known/)
  t.match(await refusal(`$\{saml.response.attributes['team']}`), /accessPolicies/, 'this one is taken')
})
