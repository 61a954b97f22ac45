import { parseArgs } from 'node:util'
import type { Ports } from './ports.ts'
import { Problem } from './problem.ts'
import type { WorldOptions } from './world.ts'

const portOptions = {
  port: 'gateway',
  'redirect-port': 'redirect',
  'controller-port': 'controller',
  'controller-metrics-port': 'controllerMetrics',
  'metrics-port': 'metrics',
} as const satisfies Record<string, keyof Ports>

const usage = `npm start -- [options]
  --http                           plain HTTP on loopback: http://localhost:8080/mcp
  --port <port>                    where clients connect (8443, 8080 with --http)
  --redirect-port <port>           plain HTTP that redirects to HTTPS (8080, 0: none)
  --controller-port <port>         the agent controller (5000), --controller-metrics-port (9090)
  --metrics-port <port>            the gateway's metrics (9091)
  --state <folder>                 where state is kept (.quickstart, or AEMBIT_QUICKSTART_DIR)
  --config <file>                  the control plane's YAML (control-plane.yaml of the state)
  --workers <n>                    proxy workers (1)
  --log-level <level>              info`

/** The command line as options of startWorld. Throws a Problem that tells the usage. */
export function parseOptions(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  root: string,
  resolve: (...paths: string[]) => string,
): WorldOptions {
  const text = { type: 'string' } as const
  let values: Record<string, string | boolean | undefined>
  try {
    const named = Object.fromEntries(Object.keys(portOptions).map((name) => [name, text]))
    const options = { http: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } as const
    const others = { state: text, config: text, workers: text, 'log-level': text }
    values = parseArgs({ args: [...args], options: { ...named, ...options, ...others } }).values
  } catch (error) {
    throw new Problem(`${error instanceof Error ? error.message : error}\n\n${usage}`)
  }
  if (values.help) throw new Problem(usage)
  const number = (name: string, min: number, max: number): number | undefined => {
    const value = values[name]
    if (value === undefined) return undefined
    const parsed = Number(value)
    if (!Number.isInteger(parsed) || parsed < min || parsed > max) {
      throw new Problem(`--${name} is a whole number from ${min} to ${max}, not ${value}`)
    }
    return parsed
  }
  const ports: Partial<Ports> = {}
  for (const [name, key] of Object.entries(portOptions)) {
    const port = number(name, name === 'redirect-port' ? 0 : 1, 65535)
    if (port !== undefined) ports[key] = port
  }
  const { state = env.AEMBIT_QUICKSTART_DIR ?? resolve(root, '.quickstart'), config } = values
  const cwd = env.INIT_CWD ?? '.'
  return {
    stateDir: resolve(cwd, String(state)),
    http: values.http === true,
    ports,
    ...(config === undefined ? {} : { configPath: resolve(cwd, String(config)) }),
    ...(values['log-level'] === undefined ? {} : { logLevel: String(values['log-level']) }),
    workers: number('workers', 1, 64) ?? 1,
  }
}
