import { once } from 'node:events'
import { type Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { type Agent, request as httpsRequest } from 'node:https'

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

export interface Ask {
  port: number
  path?: string
  method?: string
  body?: string
  agent?: Agent | HttpAgent
  /** Plain HTTP; https unless told. */
  plain?: boolean
  headers?: Record<string, string>
}

/** One request to 127.0.0.1; its own connection unless an agent is given. Certificates are not checked. */
export async function ask({
  port,
  path = '/',
  method = 'GET',
  body,
  agent,
  plain,
  headers,
}: Ask): Promise<Answer> {
  const send = plain ? httpRequest : httpsRequest
  const request = send({
    host: '127.0.0.1',
    port,
    path,
    method,
    headers,
    agent: agent ?? false,
    rejectUnauthorized: false,
  })
  request.end(body)
  const [response] = await once(request, 'response')
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() }
}
