/**
 * The client that the suite starts once per scenario, the URL of the scenario's server last. All it does is to hand the
 * scenario to the world that is up already, and to wait for its end.
 */
const {
  CONFORMANCE_HOST: host,
  MCP_CONFORMANCE_SCENARIO: scenario,
  MCP_CONFORMANCE_CONTEXT: context,
} = process.env
const url = process.argv.at(-1)
if (!host || !scenario || !url) throw new Error('this is started by the suite, not by hand')

const answer = await fetch(host, {
  method: 'POST',
  body: JSON.stringify({ scenario, url, context: context ? JSON.parse(context) : {} }),
})
console.log(await answer.text())
process.exit(answer.ok ? 0 : 1)
