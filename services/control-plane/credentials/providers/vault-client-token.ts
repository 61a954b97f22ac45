import { z } from 'zod'
import type { ProviderConfig } from '../../config/schema.ts'
import { whomOf } from '../own-tokens.ts'
import { parseJson, requestToken } from '../token-endpoint.ts'
import { headersAnswer, issuedToken } from './present.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

const loginAnswer = z.object({
  auth: z.object({
    client_token: z.string().regex(/^[\x21-\x7e]{1,4096}$/),
    /** Seconds; 0: without end. */
    lease_duration: z.number().nonnegative(),
  }),
})

/** HashiCorp Vault's JWT auth method: a JWT of our own for a client token (POST /v1/auth/<path>/login). */
export function createVaultProvider(
  config: ProviderConfig<'vaultClientToken'>,
  { issued, own, networks, clock }: Pick<ProviderDeps, 'issued' | 'own' | 'networks' | 'clock'>,
): CredentialProvider {
  const { id, vaultHost, vaultPort, vaultTls, vaultPath, vaultRole, vaultNamespace, vaultForwarding } = config
  const base = `${vaultTls ? 'https' : 'http'}://${vaultHost}:${vaultPort}`
  const url = `${base}/v1/auth/${vaultPath}/login`
  const outbound = networks.only(config.allowedNetworks)
  const headers = {
    'x-vault-request': 'true',
    ...(vaultNamespace === undefined ? {} : { 'x-vault-namespace': vaultNamespace }),
    // "active-node": always there; "when-inconsistent": only where a standby node does not know the state yet.
    ...(vaultForwarding === undefined
      ? {}
      : vaultForwarding === 'unconditional'
        ? { 'x-vault-forward': 'active-node' }
        : { 'x-vault-inconsistent': 'forward-active-node' }),
  }

  return {
    issue: async (ask) => {
      const { claims, rejected } = ask
      const make = async () => {
        const { token } = await own.make({ ...config, audience: config.audience ?? base }, claims)
        const json = { jwt: token, ...(vaultRole === undefined ? {} : { role: vaultRole }) }
        const { auth } = parseJson(await requestToken(outbound, { url, json, headers }), loginAnswer, url)
        const expiresAt = auth.lease_duration === 0 ? null : clock.now() + auth.lease_duration * 1000
        return issuedToken(auth.client_token, expiresAt, config.header ?? { name: 'X-Vault-Token' })
      }
      return headersAnswer(id, await issued.get({ config, whom: whomOf(config, ask), make, rejected }))
    },
  }
}
