import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { z } from 'zod'
import { sendJson, serve } from './http.ts'

/**
 * A sample MCP server of the older generation (SDK v1, no sessions) that one shared API key opens:
 * `weather.ts --port <port> --api-key-file <file>`. The weather is made up from the city's name.
 */
const { values } = parseArgs({ options: { port: { type: 'string' }, 'api-key-file': { type: 'string' } } })
const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
const key = digest(readFileSync(values['api-key-file'] ?? '', 'utf8').trim())

function createWeatherServer(): McpServer {
  const server = new McpServer({ name: 'weather', version: '1.0.0' })
  server.registerTool(
    'get_weather',
    { description: "Today's weather in a city.", inputSchema: { city: z.string().min(1).max(100) } },
    async ({ city }) => {
      const [seed = 0, sky = 0] = digest(city.toLowerCase())
      const skies = ['sunny', 'cloudy', 'rainy', 'windy']
      const text = `${city}: ${skies[sky % skies.length]}, ${(seed % 35) - 5} °C`
      return { content: [{ type: 'text', text }] }
    },
  )
  return server
}

serve('weather', Number(values.port), async (request, response) => {
  if (request.url?.split('?')[0] !== '/mcp') return sendJson(response, 404, { error: 'not_found' })
  const sent = request.headers['x-api-key']
  if (typeof sent !== 'string' || !timingSafeEqual(digest(sent), key)) {
    return sendJson(response, 401, { error: 'send the API key in X-Api-Key' })
  }
  const server = createWeatherServer()
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: undefined,
    enableJsonResponse: true,
  })
  response.on('close', () => {
    void transport.close()
    void server.close()
  })
  await server.connect(transport)
  await transport.handleRequest(request, response)
})
