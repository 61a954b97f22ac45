import type { Authorization, Client, Order } from 'acme-client'
import type { AcmeSettings } from '../../../shared/config/gateway-tls.ts'
import { parseTlsPem, type TlsFiles } from '../../../shared/config/tls-files.ts'
import type { Attempt, Challenges } from './challenges.ts'
import { type Acme, binding } from './client.ts'
import type { AcmeStore } from './store.ts'

export type ChallengeType = 'http-01' | 'tls-alpn-01'

/** Waits of the client while the server validates and issues: 100 ms, doubled up to 5 s, two minutes in all. */
const polling = { backoffAttempts: 30, backoffMin: 100, backoffMax: 5_000 }

export interface OrderParts {
  readonly acme: Acme
  readonly settings: AcmeSettings
  readonly store: AcmeStore
  readonly challenges: Challenges
  /** In order of preference. */
  readonly types: readonly ChallengeType[]
  /** ms since the epoch, of this machine's clock. */
  readonly now: () => number
  /** Id of the certificate that this one replaces (RFC 9773 §5); only for a server that knows renewal information. */
  readonly replaces: string | null
}

/**
 * Orders one certificate (RFC 8555 §7.1): account, order, validations, finalization, download. The key is a new P-256
 * key each time. Leaves it in the store and gives it. Throws what the server or the way to it said.
 */
export async function orderCertificate(parts: OrderParts): Promise<TlsFiles> {
  const { acme, settings, store, challenges } = parts
  const client = await openAccount(parts)
  const attempt = await challenges.begin()
  try {
    const order = await createOrder(client, settings.domains, parts.replaces)
    const authorizations = await client.getAuthorizations(order)
    await Promise.all(authorizations.map((authorization) => validate(client, authorization, attempt, parts)))
    const key = await acme.crypto.createPrivateEcdsaKey('P-256')
    const [, csr] = await acme.crypto.createCsr(
      { commonName: settings.domains[0] ?? '', altNames: [...settings.domains] },
      key,
    )
    const finalized = await client.finalizeOrder(order, csr)
    const chain = await client.getCertificate(finalized)
    const tls = parseTlsPem(chain, key.toString(), { cert: 'the issued chain', key: 'its key' })
    for (const name of settings.domains) {
      if (!tls.leaf.checkHost(name)) throw new Error(`the issued certificate does not hold ${name}`)
    }
    if (Date.parse(tls.leaf.validTo) <= parts.now())
      throw new Error(
        `the issued certificate ended on ${tls.leaf.validTo}: is the clock of this machine right?`,
      )
    await store.saveCertificate(tls)
    return tls
  } finally {
    await attempt.end()
  }
}

/** The account of the store, else a new one (RFC 8555 §7.3, with external account binding §7.3.4). */
async function openAccount({ acme, settings, store }: OrderParts): Promise<Client> {
  const { directoryUrl } = settings
  const known = store.account(directoryUrl)
  const key = known?.key ?? (await acme.crypto.createPrivateEcdsaKey('P-256')).toString()
  const externalAccountBinding = binding(settings.eab)
  const client = new acme.Client({
    directoryUrl,
    accountKey: key,
    ...(known ? { accountUrl: known.url } : {}),
    ...(externalAccountBinding ? { externalAccountBinding } : {}),
    ...polling,
  })
  if (known) return client
  await client.createAccount({
    termsOfServiceAgreed: true,
    ...(settings.contact.length > 0
      ? { contact: settings.contact.map((address) => `mailto:${address}`) }
      : {}),
  })
  await store.saveAccount({ directoryUrl, url: client.getAccountUrl(), key })
  return client
}

async function createOrder(
  client: Client,
  domains: readonly string[],
  replaces: string | null,
): Promise<Order> {
  const identifiers = domains.map((value) => ({ type: 'dns', value }))
  if (replaces === null) return client.createOrder({ identifiers })
  try {
    return await client.createOrder({ identifiers, replaces } as Parameters<Client['createOrder']>[0])
  } catch (error) {
    // The server may not know the predecessor, or count it as replaced already (RFC 9773 §5): it is advice alone.
    if (!/replace/i.test((error as Error).message)) throw error
    return client.createOrder({ identifiers })
  }
}

async function validate(
  client: Client,
  authorization: Authorization,
  attempt: Attempt,
  { acme, types }: OrderParts,
): Promise<void> {
  if (authorization.status === 'valid') return
  const name = authorization.identifier.value
  const challenge = types
    .map((type) => authorization.challenges.find((offered) => offered.type === type))
    .find((found) => found !== undefined)
  if (!challenge) {
    const offered = authorization.challenges.map(({ type }) => type).join(', ')
    throw new Error(`the ACME server offers ${offered} for ${name}; this gateway can do ${types.join(', ')}`)
  }
  const keyAuthorization = await client.getChallengeKeyAuthorization(challenge)
  if (challenge.type === 'http-01') await attempt.putHttp(challenge.token, keyAuthorization)
  else {
    const [key, cert] = await acme.crypto.createAlpnCertificate(
      authorization,
      keyAuthorization,
      await acme.crypto.createPrivateEcdsaKey('P-256'),
    )
    await attempt.putAlpn(name, key.toString(), cert.toString())
  }
  await client.completeChallenge(challenge)
  await client.waitForValidStatus(challenge)
}
