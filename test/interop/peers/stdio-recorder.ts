import { spawn } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import { countCancellations } from './cancellations.ts'

/**
 * Stands between the gateway and a server over stdio: arguments are a file and the server's script with its arguments.
 * Passes lines on as they come and appends a byte to the file for each cancellation that the server is told.
 */
const [file = '', script = '', ...args] = process.argv.slice(2)
const child = spawn(process.execPath, [script, ...args], { stdio: ['pipe', 'inherit', 'inherit'] })
child.on('exit', (code) => process.exit(code ?? 1))
child.stdin.on('error', () => {})
let rest = ''
process.stdin.setEncoding('utf8').on('data', (chunk: string) => {
  const lines = (rest + chunk).split('\n')
  rest = lines.pop() ?? ''
  for (const line of lines) {
    appendFileSync(file, '.'.repeat(countCancellations(line)))
    child.stdin.write(`${line}\n`)
  }
})
process.stdin.on('end', () => child.stdin.end())
