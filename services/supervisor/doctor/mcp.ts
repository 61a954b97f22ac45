import { type Asked, ask, jsonOf, wordsOf } from './http.ts'
import { failed, ok, type Patient, type Step, warning } from './step.ts'

const version = '2025-11-25'

async function post(patient: Patient, message: object): Promise<Asked> {
  const { session, bearer } = patient
  return ask(patient.url.href, {
    method: 'POST',
    ca: patient.ca,
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      authorization: `Bearer ${bearer}`,
      ...(session ? { 'mcp-protocol-version': session.version } : {}),
      ...(session?.id === undefined ? {} : { 'mcp-session-id': session.id }),
    },
    body: JSON.stringify({ jsonrpc: '2.0', ...message }),
  })
}

/** The answer, as JSON or as the last event of a stream. */
function answerOf(asked: Asked): Record<string, unknown> | undefined {
  if (!String(asked.headers['content-type']).startsWith('text/event-stream')) return jsonOf(asked)
  const last = asked.body.split('\n').findLast((line) => line.startsWith('data: {'))
  return last === undefined ? undefined : jsonOf({ ...asked, body: last.slice('data: '.length) })
}

const recordOf = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}

function refusal(asked: Asked): Awaited<ReturnType<Step['run']>> {
  const answer = answerOf(asked)
  const error = recordOf(answer?.error)
  const code = String(recordOf(error.data).reason ?? answer?.code ?? `HTTP ${asked.status}`).slice(0, 60)
  const advice: Readonly<Record<number, string>> = {
    401: 'the token is not accepted: docs/errors.md explains the code; sign in again for a new one',
    403: 'no policy lets this user and client use the gateway: look at the access policies',
    503: 'the gateway has no current policy or no session keys: aembit_mcp_gateway status',
  }
  return failed(
    `refused with ${asked.status}: ${code}`,
    advice[asked.status] ?? 'docs/errors.md explains the code; the log of the gateway has the rest',
  )
}

/** What an agent does once it has a token. */
export const mcpSteps: readonly Step[] = [
  {
    name: 'initialize',
    needs: ['token', 'certificate'],
    async run(patient) {
      try {
        const asked = await post(patient, {
          id: 1,
          method: 'initialize',
          params: {
            protocolVersion: version,
            capabilities: {},
            clientInfo: { name: 'aembit_mcp_gateway doctor', version: '1' },
          },
        })
        const result = answerOf(asked)?.result
        if (asked.status !== 200 || !result) return refusal(asked)
        const id = asked.headers['mcp-session-id']
        patient.session = { id: typeof id === 'string' ? id : undefined, version }
        await post(patient, { method: 'notifications/initialized' })
        return ok(`MCP ${String(recordOf(result).protocolVersion)}`)
      } catch (error) {
        return failed(wordsOf(error), 'aembit_mcp_gateway status')
      }
    },
  },
  {
    name: 'tools/list',
    needs: ['initialize'],
    async run(patient) {
      try {
        const asked = await post(patient, { id: 2, method: 'tools/list', params: {} })
        const result = recordOf(answerOf(asked)?.result)
        if (asked.status !== 200 || !Array.isArray(result.tools)) return refusal(asked)
        const said = recordOf(result._meta)['io.aembit/servers']
        const servers = (Array.isArray(said) ? said : []).map(recordOf)
        const bad = servers.filter(({ outcome }) => outcome !== 'ok')
        await end(patient)
        const text = `${result.tools.length} tools of ${servers.length} servers`
        if (bad.length > 0) {
          const each = bad.map(({ server, outcome }) => `${server}: ${outcome}`).join(', ')
          return warning(
            `${text}; ${each}`,
            'authorization_required: the person has to connect an account; timeout, error: the log names the reason (server, code)',
          )
        }
        if (servers.length === 0)
          return warning(
            'no server at all',
            'no policy gives this user a server: look at the access policies',
          )
        return ok(text)
      } catch (error) {
        return failed(wordsOf(error), 'aembit_mcp_gateway status')
      }
    },
  },
]

async function end(patient: Patient): Promise<void> {
  if (patient.session?.id === undefined) return
  await ask(patient.url.href, {
    method: 'DELETE',
    ca: patient.ca,
    headers: { authorization: `Bearer ${patient.bearer}`, 'mcp-session-id': patient.session.id },
  }).catch(() => {})
}
