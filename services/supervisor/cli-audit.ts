import { dirname, join } from 'node:path'
import type { TrailReport } from '../../shared/wire/event-chain.ts'
import { ask, OperatorUnreachable } from './cli-client.ts'

/**
 * `audit verify`: asks sync of the gateway whose operator socket is at `operatorPath`. true: the trail is whole. Throws
 * OperatorUnreachable where there is no answer.
 */
export async function auditVerify(
  operatorPath: string,
  json: boolean,
  print: (text: string) => void,
): Promise<boolean> {
  const { status, body } = await ask(join(dirname(operatorPath), 'sync.sock'), 'GET', '/v1/audit')
  if (status !== 200) {
    const { title, detail } = body as { title?: string; detail?: string }
    throw new OperatorUnreachable(
      `the trail could not be read: ${[title, detail].filter(Boolean).join(': ') || `status ${status}`}`,
    )
  }
  const report = body as TrailReport
  print(json ? JSON.stringify(report, null, 2) : describe(report))
  return report.complete
}

function describe({ complete, chains, events, swept, problems, problemCount, notes }: TrailReport): string {
  const hidden = problemCount - problems.length
  return [
    complete
      ? `audit trail WHOLE: ${events} events in ${chains} chains are stored as they were written, none is missing`
      : `audit trail NOT WHOLE: ${problemCount} problems; ${events} events in ${chains} chains were read`,
    ...problems.map((problem) => `  ! ${problem}`),
    ...(hidden > 0 ? [`  ! and ${hidden} more`] : []),
    ...(swept > 0 ? [`  ~ ${swept} older events were deleted by the retention of the control plane`] : []),
    ...notes.map((note) => `  ~ ${note}`),
    ...(complete
      ? []
      : [
          '',
          "What is missing was cut out of the control plane's database, or never reached it: the log of the gateway says",
          '"EVENTS LOST" and "events that can not be shipped were set aside" where that happened (aembit_mcp_gateway_events_lost_total',
          'counts them), and a process that was killed loses what it wrote in its last moment. What was changed was changed by',
          'someone with access to that database: keep a copy of it before anything else.',
        ]),
  ].join('\n')
}
