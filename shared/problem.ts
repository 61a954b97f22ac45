import { Fault, type FaultCode, faults } from './faults.ts'
import type { Problem } from './wire/enrolment.ts'

export const problemContentType = 'application/problem+json'

/**
 * HTTP status of a Fault between machines. One that agents get as a JSON-RPC error has 200 in the table; here it is 424
 * (RFC 4918 §11.4): a 5xx would say that the answering machine itself is in trouble.
 */
export const problemStatus = (fault: Fault): number => (fault.spec.status < 400 ? 424 : fault.spec.status)

/** RFC 9457 body of a Fault: its code and public text. `detail` and `cause` stay in our logs. */
export const toProblem = (fault: Fault): Problem => ({
  type: 'about:blank',
  title: fault.message,
  status: problemStatus(fault),
  code: fault.code,
})

export const isFaultCode = (value: string): value is FaultCode => Object.hasOwn(faults, value)

/** A refusal that another machine of ours answered: its HTTP status and, where it sent one, its problem body. */
export class AnswerFault extends Fault {
  readonly status: number
  readonly problem: Problem | undefined

  constructor(code: FaultCode, status: number, options: { detail: string; problem?: Problem }) {
    super(code, { detail: options.detail })
    this.name = 'AnswerFault'
    this.status = status
    this.problem = options.problem
  }
}
