import { across } from './across.ts'
import { authorization } from './authorization.ts'
import { browser } from './browser.ts'
import type { Area } from './case.ts'
import { outbound } from './outbound.ts'
import { tokens } from './tokens.ts'
import { wire } from './wire.ts'

export const areas: readonly Area[] = [tokens, authorization, browser, outbound, across, wire]
export const count = areas.reduce((sum, { attacks }) => sum + attacks.length, 0)

/** docs/attacks.md: what is tried, and what stops it. */
export function renderTable(): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|')
  const sections = areas.map(({ title, attacks }, index) => {
    const rows = attacks.map(
      ({ attack, refusal }, row) => `| ${index + 1}.${row + 1} | ${cell(attack)} | ${cell(refusal)} |`,
    )
    return [
      `## ${index + 1}. ${title}`,
      '',
      '| # | attack | what stops it |',
      '| --- | --- | --- |',
      ...rows,
    ].join('\n')
  })
  return `# Attacks that are tried

Made by \`node test/attacks/render.ts\` from the table that \`test/attacks/attacks.test.ts\` runs through the whole appliance:
front, proxy, sync and control plane, with real sockets and real sign-ins. ${count} attacks; after each the MCP server behind
the gateway must not have been reached.

${sections.join('\n\n')}
`
}
