import { fileURLToPath } from 'node:url'
import { borderViolations } from './borders.ts'
import { houseViolations } from './house.ts'
import { listTree } from './tree.ts'

/** Part of `npm run check`: what no compiler and no linter looks at. One line per violation, exit code 1. */
const root = process.argv[2] ?? fileURLToPath(new URL('../..', import.meta.url))
const tree = listTree(root)
const violations = [...borderViolations(tree), ...houseViolations(tree)].sort()
for (const violation of violations) console.log(violation)
if (violations.length > 0) {
  console.log(
    `${violations.length} violation${violations.length === 1 ? '' : 's'}; REVIEW.md and ARCHITECTURE.md say why`,
  )
  process.exitCode = 1
}
