import { X509Certificate } from 'node:crypto'
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { controlPlaneYaml } from '../../installer/quickstart/config.ts'
import { ensureDevelopmentTls } from '../../installer/quickstart/development-ca.ts'
import type { GatewayStatus } from '../../services/supervisor/status.ts'
import { withServers } from '../rig/servers.ts'
import { users } from '../rig/world.ts'
import type { Answer, ClientOptions } from './client.ts'
import { Container, type Ran } from './container.ts'
import type { LoadOptions, Window } from './load.ts'
import { makeRelease, sabotage, varyRelease } from './releases.ts'
import { rootfs, type Shell, setShell } from './rootfs.ts'

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url))
const upstreamPort = 8460
const apiKey = 'load-key'

/** Releases that lie unpacked in the container, below /srv. */
export type Release = 'first' | 'second' | 'broken' | 'silent'

export interface Load {
  /** Closes the window that is open, and opens the next. */
  mark(): Promise<Window>
  /** Resolves when this many requests of the open window are answered. */
  until(requests: number): Promise<void>
  /** SIGKILL of a process of the container, by its id there. */
  kill(pid: number): Promise<void>
  end(): Promise<Window>
}

/** Everything the cases work with: a booted machine, releases on it, an MCP server, certificates, a configuration. */
export class Scene {
  readonly box: Container
  readonly #tls: string
  readonly #stops: (() => void)[] = []

  private constructor(box: Container, tls: string) {
    this.box = box
    this.#tls = tls
  }

  static async set(
    cache: string,
    { suite, shell, repack }: { suite: string; shell: Shell; repack: boolean },
  ): Promise<Scene> {
    const release = join(cache, 'release')
    if (repack || !existsSync(release)) makeRelease(release)
    const box = await Container.boot(rootfs(suite, cache), cache)
    try {
      setShell(box.root, shell)
      const place = (name: Release): string => join(box.root, 'srv', name)
      cpSync(release, place('first'), { recursive: true })
      varyRelease(release, place('second'), '99.0.0', () => {})
      const gateway = (line: string) => sabotage('aembit_mcp_gateway', 'supervisor', line)
      varyRelease(
        release,
        place('broken'),
        '99.0.1',
        gateway("console.error('broken on purpose'); process.exit(1)"),
      )
      varyRelease(
        release,
        place('silent'),
        '99.0.2',
        gateway('await new Promise((r) => setTimeout(r, 3_600_000))'),
      )
      const scene = new Scene(box, join(box.root, 'srv/tls'))
      await scene.#furnish()
      return scene
    } catch (error) {
      await box.stop()
      throw error
    }
  }

  /** Which machine this is, in one line. */
  facts(): Promise<string> {
    return this.box.sh(
      '. /etc/os-release; echo "$PRETTY_NAME, $(systemctl --version | head -n 1), sh is $(readlink /usr/bin/sh)"',
    )
  }

  /** What an install of all three is given. */
  readonly settings: Readonly<Record<string, string>> = {
    AEMBIT_CONFIG_PATH: '/srv/control-plane.yaml',
    AEMBIT_TLS_CERT_CHAIN_PATH: '/srv/tls/localhost.pem',
    AEMBIT_TLS_PRIVATE_KEY_PATH: '/srv/tls/localhost.key',
    AEMBIT_LISTEN_ADDRESS: '127.0.0.1',
  }

  get caPath(): string {
    return join(this.#tls, 'ca.pem')
  }

  install(
    release: Release,
    args: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Ran> {
    return this.box.run([`/srv/${release}/install`, ...args], env)
  }

  uninstall(args: readonly string[]): Promise<Ran> {
    return this.box.run(['/srv/first/uninstall', ...args])
  }

  /** `systemctl show` of some properties. */
  async show(unit: string, ...names: string[]): Promise<Record<string, string>> {
    const text = await this.box.sh(`systemctl show ${unit} ${names.map((name) => `-p ${name}`).join(' ')}`)
    return Object.fromEntries(
      text.split('\n').map((line) => [line.split('=')[0], line.slice(line.indexOf('=') + 1)]),
    )
  }

  async status(): Promise<GatewayStatus> {
    const { stdout } = await this.box.run(['aembit_mcp_gateway', 'status', '--json'])
    return JSON.parse(stdout)
  }

  /** Its id, in the container, of the process that serves; `supervisor` is one too. */
  async pidOf(role: string): Promise<number> {
    const { pid, processes } = await this.status()
    return role === 'supervisor'
      ? pid
      : (processes.find((row) => row.role === role && row.state !== 'draining')?.pid ?? -1)
  }

  /** Everything that an install could leave behind, as one text. */
  async traces(): Promise<string> {
    const places = '/etc /opt /usr/bin /usr/lib/systemd /var/lib /run/systemd/system /var/log/journal'
    const skip = ['-name', "'*.journal'", '-o', '-path', '/etc/.pwd.lock', '-o', '-name', "'*-'"].join(' ')
    // The tables of users keep their order and their backups; their lines are what counts.
    const files = `find ${places} \\( ${skip} \\) -prune -o ! -type d -print | sort`
    return this.box.sh(
      `${files}; sort /etc/passwd; sort /etc/group; systemctl list-unit-files --no-legend 'aembit*' || :`,
    )
  }

  /** A certificate of the same authority with another key, put where the installed paths point to, by rename. */
  async renewCertificate(): Promise<void> {
    await this.#renewed((from, name) => renameSync(from, join(this.#tls, name)))
  }

  /** The same as certbot does it: files of their own in an archive, and the installed paths are links that are replaced. */
  async relinkCertificate(): Promise<void> {
    const archive = mkdtempSync(join(this.#tls, 'archive-'))
    await this.#renewed((from, name) => {
      renameSync(from, join(archive, name))
      unlinkSync(join(this.#tls, name))
      symlinkSync(join(basename(archive), name), join(this.#tls, name))
    })
  }

  async #renewed(place: (from: string, name: string) => void): Promise<void> {
    const next = `${this.#tls}.next`
    mkdirSync(next, { mode: 0o700 })
    for (const name of ['ca.pem', 'ca.key']) copyFileSync(join(this.#tls, name), join(next, name))
    await ensureDevelopmentTls(next)
    for (const name of ['localhost.key', 'localhost.pem']) place(join(next, name), name)
    rmSync(next, { recursive: true })
  }

  /** The serial number of the certificate in the file. */
  serialOnDisk(): string {
    return new X509Certificate(readFileSync(join(this.#tls, 'localhost.pem'))).serialNumber
  }

  /** The serial number of the certificate that a client is shown. */
  serialServed(): Promise<string> {
    return this.node(`require('node:tls').connect({ host: '127.0.0.1', port: 443, rejectUnauthorized: false }, function () {
      console.log(this.getPeerCertificate().serialNumber)
      this.destroy()
    })`)
  }

  /** Runs a script of Node.js as a client on the container's network that trusts our authority; what it printed. */
  async node(script: string): Promise<string> {
    const trust = ['/usr/bin/env', `NODE_EXTRA_CA_CERTS=${this.caPath}`]
    const child = this.box.onItsNetwork([...trust, process.execPath, '-e', script])
    let text = ''
    for await (const piece of child.stdout!) text += String(piece)
    return text.trim()
  }

  /** Calls of Ann's, in one session; what each answered. */
  async calls(calls: ClientOptions['calls']): Promise<Answer[]> {
    const { email, password } = users.ann
    const options = { url: 'https://localhost/mcp', caPath: this.caPath, email, password, calls }
    const child = this.box.onItsNetwork([process.execPath, here('client.ts'), JSON.stringify(options)])
    let text = ''
    for await (const piece of child.stdout!) text += String(piece)
    return JSON.parse(text || '[]') as Answer[]
  }

  async load(options: Partial<LoadOptions> = {}): Promise<Load> {
    const { email, password } = users.ann
    const all: LoadOptions = {
      url: 'https://localhost/mcp',
      caPath: this.caPath,
      email,
      password,
      connections: 64,
      http2: 8,
      streams: 20,
      ticks: 20,
      ...options,
    }
    const child = this.box.onItsNetwork([process.execPath, here('load.ts'), JSON.stringify(all)])
    const stop = (): void => void child.kill()
    this.#stops.push(stop)
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
    const ask = async (line?: string): Promise<string> => {
      if (line !== undefined) child.stdin?.write(`${line}\n`)
      const answer = await lines.next()
      if (answer.done) throw new Error('the load ended')
      return answer.value
    }
    await ask()
    return {
      mark: async () => JSON.parse(await ask('mark')) as Window,
      until: async (requests) => {
        while (Number(await ask('requests')) < requests)
          await new Promise((resolve) => setTimeout(resolve, 100))
      },
      kill: async (pid) => void (await ask(`kill ${this.box.outside(pid)}`)),
      end: async () => {
        const last = JSON.parse(await ask('end')) as Window
        stop()
        return last
      },
    }
  }

  async end(): Promise<void> {
    for (const stop of this.#stops) stop()
    await this.box.stop()
  }

  async #furnish(): Promise<void> {
    const root = join(this.box.root, 'srv')
    mkdirSync(this.#tls, { recursive: true, mode: 0o700 })
    await ensureDevelopmentTls(this.#tls)
    const etc = join(this.box.root, 'etc/aembit_control_plane')
    mkdirSync(etc, { recursive: true })
    writeFileSync(join(etc, 'weather.key'), 'not a real key, but long enough', { mode: 0o644 })
    const yaml = controlPlaneYaml({
      gatewayUrl: 'https://localhost/mcp',
      users: Object.values(users),
      ports: { notes: 8451, weather: 8452, everything: 8453 },
      weatherKeyPath: '/etc/aembit_control_plane/weather.key',
    })
    const url = `http://127.0.0.1:${upstreamPort}/mcp`
    writeFileSync(join(root, 'control-plane.yaml'), withServers(yaml, [{ id: 'load', url, apiKey }]))
    const upstream = this.box.onItsNetwork([
      process.execPath,
      here('upstream.ts'),
      String(upstreamPort),
      apiKey,
    ])
    this.#stops.push(() => void upstream.kill())
    const { value } = await createInterface({ input: upstream.stdout! })[Symbol.asyncIterator]().next()
    if (value !== 'listens') throw new Error('the MCP server of the load did not start')
  }
}
