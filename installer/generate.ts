import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gatewayTable } from '../shared/config/gateway-keys.ts'
import { timeoutDefaults } from '../shared/config/timeouts.ts'
import { faults } from '../shared/faults.ts'

/**
 * Writes what is derived from tables in the code, so that documents can not drift from it: `npm run generate`.
 * `--check` (part of `npm run check`) writes nothing and fails where a file is out of step.
 */
const root = new URL('../', import.meta.url)

function sampleEnvironment(): string {
  const rows = Object.entries(gatewayTable).map(([key, { text, fallback }]) => {
    const value = fallback?.value
    const shown =
      key === 'AEMBIT_MCP_GATEWAY_TIMEOUT'
        ? timeouts()
        : value === undefined || value === null
          ? ''
          : String(value)
    return `# ${text}${fallback ? '' : ' (required)'}\n#${key}=${shown}\n`
  })
  return [
    '# Settings of the MCP Identity Gateway, each with its default. Generated: edit a copy.\n',
    '# Unknown AEMBIT_ keys are refused; `aembit_mcp_gateway --check` tells every problem at once.\n\n',
    rows.join('\n'),
  ].join('')
}

const timeouts = (): string =>
  Object.entries(timeoutDefaults)
    .map(([name, ms]) => `${name}=${ms / 1000}s`)
    .join(',')

function faultTable(): string {
  const rows = Object.entries(faults).map(([code, fault]) => {
    const { status, text, retry } = fault
    const rpc = 'rpc' in fault ? String(fault.rpc) : ''
    return `| \`${code}\` | ${status} | ${rpc} | ${retry ? 'yes' : 'no'} | ${text} |`
  })
  return `# Errors

Every refusal and failure of the product. *Code* stands in logs, in \`outcome.reasonCode\` of events and in \`data.reason\` of
JSON-RPC errors; *try again* says whether the same request may succeed later. Generated from \`shared/faults.ts\`.

| code | HTTP | JSON-RPC | try again | what a client reads |
|---|---|---|---|---|
${rows.join('\n')}
`
}

const files: Readonly<Record<string, () => string>> = {
  'etc/aembit_mcp_gateway.env': sampleEnvironment,
  'docs/errors.md': faultTable,
}

const checking = process.argv.includes('--check')
for (const [path, make] of Object.entries(files)) {
  const target = fileURLToPath(new URL(path, root))
  if (!checking) {
    writeFileSync(target, make())
    continue
  }
  let found = ''
  try {
    found = readFileSync(target, 'utf8')
  } catch {
    // Absent is out of step like any other difference.
  }
  if (found !== make()) {
    console.error(`${path} is out of step with the code: run npm run generate`)
    process.exitCode = 1
  }
}
