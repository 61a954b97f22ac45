import { writeFileSync } from 'node:fs'
import { renderTable } from './table.ts'

writeFileSync(new URL('../../docs/attacks.md', import.meta.url), renderTable())
