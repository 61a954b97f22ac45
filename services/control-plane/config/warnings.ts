import ipaddr from 'ipaddr.js'
import type { ProblemAt } from './messages.ts'
import type { Config } from './schema.ts'

/** What may well be meant, and most often is not. Never stops a start. */
export function warnAbout(config: Config): ProblemAt[] {
  const warnings: ProblemAt[] = []
  const privately = (path: ProblemAt['path'], url: string | undefined, allowed: readonly string[]): void => {
    if (url === undefined || allowed.length > 0 || !isPrivateHost(new URL(url).hostname)) return
    warnings.push({
      path,
      message: 'is in a private network and will be refused, list that network in allowedNetworks beside it',
    })
  }
  for (const [index, server] of config.serverWorkloads.entries()) {
    privately(['serverWorkloads', index, 'url'], server.url, server.allowedNetworks)
    if (!config.accessPolicies.some((policy) => policy.active && policy.server === server.id)) {
      warnings.push({
        path: ['serverWorkloads', index, 'id'],
        message: 'is in no active access policy, so nobody reaches it',
      })
    }
  }
  for (const [index, provider] of config.identityProviders.entries()) {
    if (provider.type === 'oidc') {
      privately(['identityProviders', index, 'issuer'], provider.issuer, provider.allowedNetworks)
    }
  }
  for (const [index, provider] of config.credentialProviders.entries()) {
    if (provider.type === 'mcp-user-based-access-token') {
      privately(
        ['credentialProviders', index, 'mcpServerUrl'],
        provider.mcpServerUrl,
        provider.allowedNetworks,
      )
    }
  }
  if (!config.accessPolicies.some((policy) => policy.active && policy.server === 'gateway')) {
    warnings.push({
      path: ['accessPolicies'],
      message: 'let nobody in, add an active policy with server: gateway',
    })
  }
  return warnings
}

function isPrivateHost(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '')
  if (host === 'localhost' || host.endsWith('.localhost')) return true
  return ipaddr.isValid(host) && ipaddr.process(host).range() !== 'unicast'
}
