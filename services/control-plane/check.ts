import { formatProblems, invalidConfigExit } from '../../shared/config/env.ts'
import { Fault } from '../../shared/faults.ts'
import { loadConfig } from './config/load.ts'

/** `--check`: reads the configuration and every secret it names, and starts nothing. Returns the exit code. */
export async function checkConfiguration(program: string, path: string): Promise<number> {
  try {
    await loadConfig(path, { warn: (line) => console.error(line) })
  } catch (error) {
    const { detail, message } = Fault.from(error)
    const lines = (detail ?? message).split('\n')
    console.error(
      formatProblems(
        program,
        lines.map((line) => ({ key: 'AEMBIT_CONFIG_PATH', message: line })),
      ),
    )
    return invalidConfigExit
  }
  console.log(`${path} is valid`)
  return 0
}
