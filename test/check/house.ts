import { posix } from 'node:path'
import type { SourceFile } from './tree.ts'

const maxLines = 400
const topLevel = new Set(['services', 'shared', 'installer', 'test', 'etc', 'docs', '.ci'])

const oversized = (tree: readonly SourceFile[]): string[] =>
  tree
    .filter(({ path, lines }) => /\.(ts|sql)$/.test(path) && lines.length - 1 > maxLines)
    .map(
      ({ path, lines }) =>
        `${path}:${maxLines + 1}: ${lines.length - 1} lines, more than ${maxLines} are refused`,
    )

/** `main.ts` of a service is a recipe. */
const longRecipes = (tree: readonly SourceFile[]): string[] =>
  tree
    .filter(({ path, lines }) => /^services\/[^/]+\/main\.ts$/.test(path) && lines.length - 1 > 80)
    .map(({ path, lines }) => `${path}:81: ${lines.length - 1} lines; a recipe has at most 80`)

/** A room is a folder with TypeScript files of its own; its README may also stand one folder up where that is its only room. */
function roomsWithoutReadme(tree: readonly SourceFile[]): string[] {
  const paths = new Set(tree.map(({ path }) => path))
  const rooms = new Set(
    tree.flatMap(({ path }) =>
      /^(services|shared|installer|test)\/.*\.ts$/.test(path) ? [posix.dirname(path)] : [],
    ),
  )
  return (
    [...rooms]
      .filter((room) => !paths.has(`${room}/README.md`))
      // Tests are described by their names: the rooms of test/<service> need no README each.
      .filter((room) => !/^test\/(?!rig|bench|check|e2e)[^/]+/.test(room))
      .map((room) => `${room}/README.md:1: this room has no README.md`)
  )
}

const unexpectedFolders = (tree: readonly SourceFile[]): string[] =>
  [...new Set(tree.map(({ path }) => path.split('/')).filter((parts) => parts.length > 1))]
    .map((parts) => parts[0] ?? '')
    .filter((name, index, all) => !topLevel.has(name) && all.indexOf(name) === index)
    .map((name) => `${name}/:1: there is no top-level folder ${name}/ in this house`)

/** A lock file with addresses ties everyone to one registry. */
const lockAddresses = (tree: readonly SourceFile[]): string[] =>
  tree
    .filter(({ path }) => path === 'package-lock.json')
    .flatMap(({ path, lines }) =>
      lines.flatMap((text, index) =>
        /"resolved":/.test(text)
          ? [`${path}:${index + 1}: a download address; set omit-lockfile-registry-resolved`]
          : [],
      ),
    )

// Written in pieces, so that this file does not find itself.
const machinePath = new RegExp(
  `(?<![\\w.:@/-])/(?:${['home', 'Users', 'root', 'work'].join('|')})/[A-Za-z0-9._-]+`,
)

const machinePaths = (tree: readonly SourceFile[]): string[] =>
  tree
    .filter(({ path }) => path !== 'package-lock.json' && path !== 'LICENSE')
    .flatMap(({ path, lines }) =>
      lines.flatMap((text, index) => {
        const match = machinePath.exec(text)
        return match ? [`${path}:${index + 1}: the path of one machine: ${match[0]}`] : []
      }),
    )

/** A test that is told to run alone or not at all, and a promise instead of code. */
const leftovers = (tree: readonly SourceFile[]): string[] =>
  tree
    .filter(({ path }) => path.endsWith('.ts') && !path.startsWith('test/check/'))
    .flatMap(({ path, lines }) =>
      lines.flatMap((text, index) => {
        if (/\bt\.only\(|\bonly: true\b/.test(text)) return [`${path}:${index + 1}: a test that runs alone`]
        if (/\/\/\s*(TODO|FIXME|XXX)\b/.test(text)) return [`${path}:${index + 1}: a promise instead of code`]
        return []
      }),
    )

export const houseViolations = (tree: readonly SourceFile[]): string[] => [
  ...oversized(tree),
  ...longRecipes(tree),
  ...roomsWithoutReadme(tree),
  ...unexpectedFolders(tree),
  ...lockAddresses(tree),
  ...machinePaths(tree),
  ...leftovers(tree),
]
