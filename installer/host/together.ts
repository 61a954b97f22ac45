import { readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { z } from 'zod'
import type { Problem } from '../../shared/config/env.ts'
import type { ApplicationName } from './layout.ts'
import { controlPlaneSockets, layouts } from './layout.ts'
import type { Settings } from './settings.ts'

/** Settings that several applications have under one name; each other belongs to the gateway. */
const routes: Readonly<Record<string, readonly ApplicationName[]>> = {
  AEMBIT_LOG_LEVEL: ['aembit_control_plane', 'aembit_agent_controller', 'aembit_mcp_gateway'],
  AEMBIT_CONFIG_PATH: ['aembit_control_plane'],
  AEMBIT_MASTER_KEY_PATH: ['aembit_control_plane'],
  AEMBIT_TENANT_ID: ['aembit_agent_controller'],
  AEMBIT_STACK_DOMAIN: ['aembit_agent_controller'],
  AEMBIT_AGENT_CONTROLLER_ID: ['aembit_agent_controller'],
  AEMBIT_DEVICE_CODE: ['aembit_agent_controller'],
  AEMBIT_METRICS_ENABLED: ['aembit_agent_controller'],
  AEMBIT_ENROLMENT_SECRET_PATH: ['aembit_agent_controller', 'aembit_mcp_gateway'],
}

/** One environment for three applications on one machine: which of it each one gets. */
export const routed = (name: ApplicationName, given: Settings): Settings =>
  Object.fromEntries(
    Object.entries(given).filter(([key]) => (routes[key] ?? ['aembit_mcp_gateway']).includes(name)),
  )

/** Settings that `--all` has no place for: told, because dropped in silence they would be believed to act. */
export const unroutable = (given: Settings): Problem[] =>
  layouts.aembit_agent_controller.others
    .filter((key) => given[key] !== undefined)
    .map((key) => ({
      key,
      message:
        'has no effect with --all, where the agent controller serves this machine alone and without TLS; leave it out, or ' +
        'install the agent controller by itself',
    }))

const configSchema = z.object({
  tenant: z.object({ id: z.string() }),
  gateway: z.object({ url: z.string() }),
})

/** What follows from their being on one machine, and from the control plane's configuration. Given settings win. */
export function joined(name: ApplicationName, configPath: string | undefined): Settings {
  if (name === 'aembit_control_plane') return {}
  const machine = { AEMBIT_CONTROL_PLANE_URL: `unix:${controlPlaneSockets.machine}` }
  const config = configPath === undefined ? undefined : readConfig(configPath)
  if (name === 'aembit_agent_controller')
    return { ...machine, ...(config ? { AEMBIT_TENANT_ID: config.tenant.id } : {}) }
  return {
    ...machine,
    AEMBIT_AGENT_CONTROLLER_URL: 'http://localhost:5000',
    AEMBIT_CONTROL_PLANE_SOCKET: controlPlaneSockets.public,
    ...(config
      ? {
          AEMBIT_MCP_GATEWAY_URL: config.gateway.url,
          AEMBIT_AUTHORIZATION_SERVER: new URL(config.gateway.url).origin,
        }
      : {}),
  }
}

/** undefined where it does not parse: the control plane's own check tells why. */
function readConfig(path: string): z.infer<typeof configSchema> | undefined {
  try {
    const { data } = configSchema.safeParse(parse(readFileSync(path, 'utf8')))
    return data && URL.canParse(data.gateway.url) ? data : undefined
  } catch {
    return undefined
  }
}
