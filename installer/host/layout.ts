/** Where things lie on a host, and which settings name files that a service can not read where they are. */
export const applicationNames = [
  'aembit_control_plane',
  'aembit_agent_controller',
  'aembit_mcp_gateway',
] as const
export type ApplicationName = (typeof applicationNames)[number]

export interface Layout {
  /** Settings in the form of systemd's EnvironmentFile. */
  readonly envFile: string
  /** Variables whose file is brought to the service; what the service is told instead. */
  readonly brought: Readonly<Record<string, string>>
  /** Variables besides AEMBIT_ that are settings. */
  readonly others: readonly string[]
  /** Folders that systemd makes and the unit names. */
  readonly fixed: Readonly<Record<string, string>>
}

const credentials = (name: ApplicationName): string => `/run/credentials/${name}.service`

export const tlsFolder = '/run/aembit_mcp_gateway_tls'
export const configFile = '/etc/aembit_control_plane/control_plane.yaml'
export const controlPlaneSockets = {
  public: '/run/aembit_control_plane/public.sock',
  machine: '/run/aembit_control_plane/machine.sock',
} as const

export const layouts: Readonly<Record<ApplicationName, Layout>> = {
  aembit_mcp_gateway: {
    envFile: '/etc/aembit_mcp_gateway/gateway.env',
    brought: {
      AEMBIT_TLS_CERT_CHAIN_PATH: `${tlsFolder}/cert_chain.pem`,
      AEMBIT_TLS_PRIVATE_KEY_PATH: `${tlsFolder}/private_key.pem`,
      AEMBIT_ENROLMENT_SECRET_PATH: `${credentials('aembit_mcp_gateway')}/enrolment_secret`,
      AEMBIT_ACME_EAB_HMAC_KEY_PATH: `${credentials('aembit_mcp_gateway')}/acme_eab_hmac_key`,
    },
    others: [],
    fixed: { AEMBIT_RUNTIME_DIR: '/run/aembit_mcp_gateway', AEMBIT_STATE_DIR: '/var/lib/aembit_mcp_gateway' },
  },
  aembit_agent_controller: {
    envFile: '/etc/aembit_agent_controller/controller.env',
    brought: {
      AEMBIT_ENROLMENT_SECRET_PATH: `${credentials('aembit_agent_controller')}/enrolment_secret`,
      TLS_PEM_PATH: `${credentials('aembit_agent_controller')}/tls_pem`,
      TLS_KEY_PATH: `${credentials('aembit_agent_controller')}/tls_key`,
      AEMBIT_ATTESTATION_CERT_PATH: `${credentials('aembit_agent_controller')}/attestation_cert`,
      AEMBIT_ATTESTATION_KEY_PATH: `${credentials('aembit_agent_controller')}/attestation_key`,
      KRB5_KTNAME: `${credentials('aembit_agent_controller')}/krb5_keytab`,
    },
    others: ['TLS_PEM_PATH', 'TLS_KEY_PATH', 'KRB5_KTNAME'],
    fixed: { AEMBIT_STATE_DIR: '/var/lib/aembit_agent_controller' },
  },
  aembit_control_plane: {
    envFile: '/etc/aembit_control_plane/control_plane.env',
    brought: {
      AEMBIT_CONFIG_PATH: configFile,
      AEMBIT_MASTER_KEY_PATH: `${credentials('aembit_control_plane')}/master_key`,
    },
    others: [],
    fixed: {
      AEMBIT_RUNTIME_DIR: '/run/aembit_control_plane',
      AEMBIT_STATE_DIR: '/var/lib/aembit_control_plane',
    },
  },
}

/** Files that reach a service as systemd credentials: setting → credential. */
export const credentialsOf = (
  name: ApplicationName,
  settings: Readonly<Record<string, string>>,
): { id: string; source: string }[] =>
  Object.entries(layouts[name].brought).flatMap(([key, path]) => {
    const source = settings[key]
    return source !== undefined && path.startsWith(credentials(name))
      ? [{ id: path.slice(path.lastIndexOf('/') + 1), source }]
      : []
  })
