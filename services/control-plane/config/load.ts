import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { LineCounter, parseAllDocuments } from 'yaml'
import { Fault } from '../../../shared/faults.ts'
import { locate, pathText } from './locate.ts'
import { describeIssue, type ProblemAt } from './messages.ts'
import { checkReferences } from './references.ts'
import { type Config, complete, createConfigSchema } from './schema.ts'
import { createSecretReader } from './secrets.ts'
import { warnAbout } from './warnings.ts'

export type { Config } from './schema.ts'

const maxBytes = 8 << 20

/** Everything that is wrong with a configuration file, one line each: `file:line:column path: what, what to do`. */
export class ConfigFault extends Fault {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super('config.invalid', { detail: problems.join('\n') })
    this.name = 'ConfigFault'
    this.problems = problems
  }
}

export interface LoadOptions {
  /** Where `{env: NAME}` is looked up; the process's own environment unless told. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Called once per warning, in the form of a problem line. */
  readonly warn?: (line: string) => void
}

/**
 * Reads and checks the whole file, secrets included. Throws ConfigFault with every problem at once: what this
 * returns can be applied whole.
 */
export async function loadConfig(path: string, options: LoadOptions = {}): Promise<Config> {
  let source: string
  try {
    if ((await stat(path)).size > maxBytes) throw new Error('it is larger than 8 MiB')
    source = await readFile(path, 'utf8')
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'does not exist' : (error as Error).message
    throw new ConfigFault([
      `${path}:1:1 (file): can not be read (${why}), set AEMBIT_CONFIG_PATH to the configuration`,
    ])
  }
  return parseConfig(source, path, options)
}

export function parseConfig(source: string, path: string, options: LoadOptions = {}): Config {
  const lines = new LineCounter()
  // YAML 1.2 core: "no", "on" and 012 stay what they look like.
  const documents = parseAllDocuments(source, {
    lineCounter: lines,
    version: '1.2',
    schema: 'core',
    uniqueKeys: true,
  })
  const [document] = Array.isArray(documents) ? documents : []
  if (!document || document.contents === null) {
    throw new ConfigFault([`${path}:1:1 (file): is empty, start from etc/control-plane.yaml`])
  }
  const syntax = [...document.errors, ...document.warnings].map((error) => {
    const { line, col } = lines.linePos(error.pos[0])
    const what = error.message.split('\n')[0]?.replace(/ at line \d+, column \d+:?$/, '') ?? 'is no YAML'
    return `${path}:${line}:${col} (syntax): ${what}, correct the YAML`
  })
  const second = Array.isArray(documents) ? documents[1] : undefined
  if (second) {
    const { line, col } = lines.linePos(second.range?.[0] ?? 0)
    syntax.push(`${path}:${line}:${col} (syntax): a second document starts, put everything into one`)
  }
  if (syntax.length > 0) throw new ConfigFault(syntax)

  let file: unknown
  try {
    file = document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    throw new ConfigFault([`${path}:1:1 (syntax): ${(error as Error).message}, correct the YAML`])
  }
  const format = ({ path: at, key, message }: ProblemAt) => {
    const place = locate(document, lines, at, key)
    return { place, text: `${path}:${place.line}:${place.column} ${pathText(at) || '(file)'}: ${message}` }
  }
  const schema = createConfigSchema(createSecretReader(dirname(resolve(path)), options.env ?? process.env))
  const parsed = schema.safeParse(file)
  const problems = [
    ...(parsed.error?.issues ?? []).flatMap((issue) => describeIssue(issue, schema, file)),
    ...checkReferences(file),
  ]
  if (!parsed.success || problems.length > 0) {
    throw new ConfigFault(
      problems
        .map(format)
        .sort((a, b) => a.place.line - b.place.line || a.place.column - b.place.column)
        .map(({ text }) => text),
    )
  }
  const config = complete(parsed.data)
  if (config.geoip) config.geoip = { database: resolve(dirname(path), config.geoip.database) }
  for (const warning of warnAbout(config)) options.warn?.(format(warning).text)
  return config
}
