import { createAgent } from '../../installer/quickstart/agent.ts'

/**
 * A person's agent on the container's network: signs in, makes calls in one session, one after the other, and prints what
 * each answered as a JSON list. Argument: a JSON object.
 */
export interface ClientOptions {
  readonly url: string
  readonly caPath: string
  readonly email: string
  readonly password: string
  readonly calls: readonly { readonly name: string; readonly arguments: Readonly<Record<string, unknown>> }[]
}

export interface Answer {
  readonly isError: boolean
  readonly text: string
}

const { url, caPath, email, password, calls } = JSON.parse(process.argv[2] ?? '{}') as ClientOptions
const agent = createAgent({ url, caPath, person: { email, password, account: 'ann' }, clientName: 'client' })
const client = await agent.connect()
const answers: Answer[] = []
for (const call of calls) {
  const { isError, content } = await client.callTool(call)
  const text = (content as { text?: string }[]).map((part) => part.text ?? '').join('\n')
  answers.push({ isError: isError === true, text })
}
await agent.close()
console.log(JSON.stringify(answers))
process.exit(0)
