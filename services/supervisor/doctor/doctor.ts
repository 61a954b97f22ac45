import { identitySteps } from './identity.ts'
import { machineSteps } from './machine.ts'
import { mcpSteps } from './mcp.ts'
import { networkSteps } from './network.ts'
import { type Finding, failed, type Patient, type Step, skipped } from './step.ts'

/** In the order in which a request depends on them: the first that fails is the one to mend. */
export const steps: readonly Step[] = [...machineSteps, ...networkSteps, ...identitySteps, ...mcpSteps]

/** Looks at everything that can be looked at; a step whose needs did not hold is skipped. Never rejects. */
export async function examine(
  patient: Patient,
  tell: (finding: Finding) => void = () => {},
): Promise<Finding[]> {
  const findings: Finding[] = []
  await patient.status().then(
    (running) => {
      patient.running = running
    },
    (error: unknown) => {
      patient.silence = (error as Error).message
    },
  )
  for (const { name, needs, run } of steps) {
    const missing = needs.find((need) => {
      const found = findings.find(({ step }) => step === need)
      return found?.verdict === 'failed' || found?.verdict === 'skipped'
    })
    const found =
      missing === undefined
        ? await run(patient).catch((error: unknown) =>
            failed(`the check itself failed: ${(error as Error).message}`, 'report this as a bug'),
          )
        : skipped(`needs: ${missing}`)
    const finding = { step: name, ...found }
    findings.push(finding)
    tell(finding)
  }
  return findings
}
