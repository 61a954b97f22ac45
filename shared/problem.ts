import { Fault, type FaultCode, faults } from './faults.ts'
import type { Problem } from './wire/enrolment.ts'

export const problemContentType = 'application/problem+json'

/** RFC 9457 body of a Fault: its code and public text. `detail` and `cause` stay in our logs. */
export const toProblem = (fault: Fault): Problem => ({
  type: 'about:blank',
  title: fault.message,
  status: fault.spec.status,
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
