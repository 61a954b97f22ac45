/** What is packed: one tarball per product, each with the applications that it can install. */
export const applications = {
  aembit_mcp_gateway: {
    services: ['supervisor', 'front', 'proxy', 'sync', 'stdio-adapter'],
    /** Started by the wrapper in bin/. */
    entry: 'services/supervisor/cli',
    settings: 'gateway.env',
  },
  aembit_agent_controller: {
    services: ['agent-controller'],
    entry: 'services/agent-controller/main',
    settings: 'controller.env',
  },
  aembit_control_plane: {
    services: ['control-plane'],
    entry: 'services/control-plane/cli/main',
    settings: 'control_plane.env',
  },
} as const

export type Application = keyof typeof applications

/** The first is what `./install` installs; all of them, last first, with `--all`. */
export const products = {
  aembit_mcp_gateway: ['aembit_mcp_gateway', 'aembit_agent_controller', 'aembit_control_plane'],
  aembit_agent_controller: ['aembit_agent_controller'],
  aembit_control_plane: ['aembit_control_plane'],
} as const satisfies Record<Application, readonly Application[]>

export const architectures = ['x64', 'arm64'] as const
export type Architecture = (typeof architectures)[number]

/** Name of a tarball without its ending, and of the one folder in it. */
export const bundleName = (product: Application, arch: Architecture, version: string): string =>
  `${product}_linux_${arch}_${version}`
