import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import formbody from '@fastify/formbody'
import Fastify from 'fastify'
import type { Test } from 'tap'
import { parseConfig } from '../../../services/control-plane/config/load.ts'
import { createCredentialPlane } from '../../../services/control-plane/credential-plane.ts'
import { createSealer } from '../../../services/control-plane/credentials/sealer.ts'
import { createAccessEvents } from '../../../services/control-plane/events/access.ts'
import { createAuditLog } from '../../../services/control-plane/events/audit.ts'
import {
  type CredentialChange,
  createCredentialChanges,
} from '../../../services/control-plane/fleet/credential-changes.ts'
import { createFleetKeys } from '../../../services/control-plane/fleet/keys.ts'
import { createKillSwitch } from '../../../services/control-plane/fleet/kill-switch.ts'
import { createRevocations } from '../../../services/control-plane/fleet/revocations.ts'
import { createSnapshotSource } from '../../../services/control-plane/fleet/snapshots.ts'
import { createToolPins } from '../../../services/control-plane/fleet/tool-pins.ts'
import { createIdentityPlane } from '../../../services/control-plane/identity-plane.ts'
import { createCircumstances, issuancePolicy } from '../../../services/control-plane/policy/issuance.ts'
import { openDatabase } from '../../../services/control-plane/store/database.ts'
import type { CredentialAnswer } from '../../../shared/wire/credential.ts'
import { type Answer, Browser } from '../identity/browser.ts'
import { TestClock } from '../identity/world.ts'
import { memoryLog } from './rig.ts'
import { startUpstream, type Upstream, type UpstreamOptions } from './upstream.ts'

export const password = 'correct horse battery staple'
const users = ['ann', 'bob', 'eve'].map((name) => ({
  email: `${name}@example.com`,
  name,
  groups: ['staff'],
  password,
}))

export interface PlaneOptions {
  /** More keys of the credential provider. */
  readonly provider?: Record<string, unknown>
  readonly serverUrl?: string
  readonly allowedNetworks?: readonly string[]
}

/** Sign-in, snapshot and credentials of a control plane on a real port, without the machine socket. */
export async function startPlane(serverUrl: string, options: PlaneOptions = {}) {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const networks = options.allowedNetworks ?? ['127.0.0.0/8']
  const configOf = (over: Record<string, unknown> = {}) =>
    parseConfig(
      JSON.stringify({
        tenant: { id: 'test' },
        gateway: { url: `${origin}/mcp` },
        identityProviders: [{ id: 'local', type: 'directory', users }],
        clientWorkloads: [{ id: 'agents', identities: [{ type: 'oauthRedirectUri', value: '*' }] }],
        trustProviders: [
          {
            id: 'staff',
            matchRules: ['ann', 'bob'].map((name) => ({
              attribute: 'OidcCustom',
              key: 'email',
              value: `${name}@example.com`,
            })),
          },
        ],
        serverWorkloads: [
          { id: 'notes', name: 'Notes', url: serverUrl, allowedNetworks: networks },
          { id: 'keyed', url: 'https://keyed.example/mcp' },
          { id: 'open', url: 'https://open.example/mcp' },
        ],
        credentialProviders: [
          {
            id: 'notes-account',
            type: 'mcp-user-based-access-token',
            allowedNetworks: networks,
            ...options.provider,
          },
          {
            id: 'key',
            type: 'apikey',
            header: { name: 'Authorization', scheme: 'Bearer', value: { value: 'the-api-key' } },
          },
          { id: 'none', type: 'none' },
        ],
        accessPolicies: [
          { id: 'in', client: 'agents', server: 'gateway' },
          { id: 'notes', server: 'notes', trustProviders: ['staff'], credentialProvider: 'notes-account' },
          { id: 'keyed', server: 'keyed', trustProviders: ['staff'], credentialProvider: 'key' },
          { id: 'open', server: 'open', credentialProvider: 'none' },
        ],
        ...over,
      }),
      'test.yaml',
    )
  const clock = new TestClock()
  const { log, lines } = memoryLog()
  const db = openDatabase(':memory:')
  const sealer = createSealer(Buffer.alloc(32, 9))
  const keys = await createFleetKeys(db, sealer, clock)
  const snapshots = createSnapshotSource({
    db,
    clock,
    keys,
    revocations: createRevocations(db, clock),
    killSwitch: createKillSwitch(db, clock),
    toolPins: createToolPins(db, clock),
    log,
  })
  const circumstances = createCircumstances(clock, () => undefined)
  const identity = await createIdentityPlane(
    {
      db,
      sealer,
      clock,
      log,
      revoke: snapshots.revoke,
      audit: createAuditLog(db, clock),
      events: { add: () => '' },
      passwordCost: { ln: 10, r: 8, p: 1 },
      policy: () => {
        const { config, index } = snapshots.current()
        return issuancePolicy(config, index, circumstances(undefined))
      },
    },
    configOf(),
  )
  const apply = async (over: Record<string, unknown> = {}) => {
    const commit = await identity.prepare(configOf(over))
    await snapshots.apply(configOf(over), identity.keys.publicJwks())
    commit()()
  }
  await apply()
  const changes = createCredentialChanges()
  const changed: CredentialChange[] = []
  changes.subscribe(({ issuer, subject, serverId }) => changed.push({ issuer, subject, serverId }))
  const { sessions, browser, accounts: people, idpTokens, externals } = identity
  const events = createAccessEvents(db, clock, () => ({ maxAgeMs: 86_400_000, maxRows: 10_000 }))
  const audit = createAuditLog(db, clock)
  const plane = createCredentialPlane({
    db,
    sealer,
    clock,
    log,
    snapshots,
    changes,
    people,
    circumstances,
    sessions,
    browser,
    idpTokens,
    externals,
    keys: identity.keys,
    events,
    audit,
    random: () => 0.5,
  })
  const app = Fastify({ trustProxy: true })
  app.register(formbody)
  identity.register(app)
  plane.register(app)
  await app.ready()
  server.on('request', (request, response) => app.routing(request, response))
  const pages: string[] = []
  return {
    origin,
    clock,
    lines,
    db,
    sealer,
    plane,
    snapshots,
    /** Access events, newest first. */
    events: () =>
      events.query({ spanLastHours: 24, page: 1, perPage: 100 }).events as Record<string, never>[],
    audit: (category?: string) => audit.query({ category, page: 1, perPage: 100 }).entries,
    changed,
    apply,
    pages,
    ask: (name: string, rejected?: string, serverId = 'notes'): Promise<CredentialAnswer> =>
      plane.issue({
        issuer: origin,
        subject: `${name}@example.com`,
        clientId: 'agent',
        serverId,
        ...(rejected === undefined ? {} : { rejected }),
      }),
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await app.close()
      await plane.close()
      await identity.close()
      db.close()
    },
  }
}

export type Plane = Awaited<ReturnType<typeof startPlane>>

export async function signIn(plane: Plane, name: string, browser = new Browser()): Promise<Browser> {
  const page = await browser.get(`${plane.origin}/sign-in?return_to=%2Fconnections`)
  await browser.submit(page, '/password', { email: `${name}@example.com`, password })
  return browser
}

/** The link of an `authorization_required` answer. */
export async function link(plane: Plane, name: string): Promise<string> {
  const answer = await plane.ask(name)
  if (answer.kind !== 'authorization_required') throw new Error(`answered ${answer.kind}`)
  return answer.url
}

/** From the link to the last page, signing in here and upstream on the way. */
export async function connect(
  plane: Plane,
  upstream: Upstream,
  name: string,
  browser = new Browser(),
): Promise<Answer> {
  const url = await link(plane, name)
  let at = await browser.follow(await browser.get(url))
  if (at.text.includes('name="password"')) {
    at = await browser.follow(
      await browser.submit(at, '/password', { email: `${name}@example.com`, password }),
    )
  }
  upstream.person = `${name}-at-notes`
  return browser.follow(await browser.submit(at, '/connect'))
}

/** An upstream and a plane in front of it, closed with the test. */
export async function scene(t: Test, options: UpstreamOptions & PlaneOptions = {}) {
  const upstream = await startUpstream(options)
  t.teardown(() => upstream.close())
  const plane = await startPlane(options.serverUrl ?? upstream.resource, options)
  t.teardown(() => plane.close())
  for (const name of ['ann', 'bob']) await signIn(plane, name)
  return { upstream, plane }
}

export function tokenOf(answer: CredentialAnswer): string {
  if (answer.kind !== 'headers') throw new Error(`answered ${JSON.stringify(answer)}`)
  return answer.headers[0]!.value.replace(/^Bearer /, '')
}
