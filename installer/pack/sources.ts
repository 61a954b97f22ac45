import { cpSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { dirname, join, posix } from 'node:path'

/** `from './x.ts'`, `import './x.ts'`, `import('./x.ts')`. */
const relativeSpecifier = /((?:\bfrom|\bimport)\s*\(?\s*)(['"])(\.{1,2}\/[^'"\n]+)\.ts\2/g
const bareSpecifier =
  /(?:^(?:import|export|\})[^'"\n]*\bfrom\s*|^import\s*|\bimport\s*\(\s*)(['"])([^.'"\n][^'"\n]*)\1/gm

/**
 * Copies the sources of an application to `target` as JavaScript that needs no type stripping: types become blanks,
 * so that lines and columns of a stack trace are those of the source. Other files (SQL, CSS) go along as they are.
 * Returns the names of the packages that the code imports.
 */
export function stageSources(root: string, folders: readonly string[], target: string): Set<string> {
  const packages = new Set<string>()
  for (const path of folders.flatMap((folder) => filesOf(root, folder))) {
    const to = join(target, path)
    mkdirSync(dirname(to), { recursive: true })
    if (!path.endsWith('.ts')) {
      cpSync(join(root, path), to)
      continue
    }
    const code = toJavaScript(readFileSync(join(root, path), 'utf8'))
    for (const [, , specifier = ''] of code.matchAll(bareSpecifier)) {
      if (!specifier.startsWith('node:')) packages.add(packageOf(specifier))
    }
    writeFileSync(to.replace(/\.ts$/, '.js'), code)
  }
  return packages
}

/** Types blanked, imports of `.ts` files made imports of `.js` files. */
export const toJavaScript = (source: string): string =>
  stripTypeScriptTypes(source, { mode: 'strip' })
    .replace(relativeSpecifier, '$1$2$3.js$2')
    .replace(/[ \t]+$/gm, '')

/** `@scope/name/file` → `@scope/name`. */
const packageOf = (specifier: string): string =>
  specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')

const filesOf = (root: string, folder: string): string[] =>
  globSync(`${folder}/**`, { cwd: root, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.md'))
    .map((entry) => posix.relative(root, posix.join(entry.parentPath, entry.name)))
    .sort()
