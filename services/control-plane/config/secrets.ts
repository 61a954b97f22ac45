import { readFileSync, statSync } from 'node:fs'
import { isAbsolute, resolve } from 'node:path'
import { Secret, type SecretReader } from './secret.ts'

const maxSecretBytes = 64 << 10

/**
 * Reads `{file}`, `{env}` and `{value}`. A relative file is looked for beside the configuration. One line end at
 * the end of a file is not part of the secret. Messages name the place, never the content.
 */
export function createSecretReader(
  folder: string,
  env: Readonly<Record<string, string | undefined>>,
): SecretReader {
  return ({ file, env: name, value }) => {
    if (value !== undefined) return new Secret(value)
    if (name !== undefined) {
      const found = env[name]
      if (!found)
        throw new Error(`is the environment variable ${name}, which is not set, set it or name another`)
      return new Secret(found)
    }
    const path = isAbsolute(file ?? '') ? (file ?? '') : resolve(folder, file ?? '')
    let content: string
    try {
      if (statSync(path).size > maxSecretBytes) throw new Error('it is larger than 64 KiB')
      content = readFileSync(path, 'utf8').replace(/\r?\n$/, '')
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      const why =
        code === 'ENOENT' ? 'does not exist' : code === 'EACCES' ? 'may not be read' : 'can not be read'
      throw new Error(`is the file ${path}, which ${why}, put the secret there or name another`)
    }
    if (content === '') throw new Error(`is the file ${path}, which is empty, put the secret there`)
    return new Secret(content)
  }
}
