import { appendFileSync, readFileSync } from 'node:fs'
import { request } from 'node:http'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { controlPlaneSockets, layouts } from './layout.ts'
import { readKept } from './settings.ts'

const statePath = '/var/lib/aembit_agent_controller/agent-controller.json'
const adminTokenPath = '/var/lib/aembit_control_plane/admin-token'
const timeoutMs = 10_000
const maxBytes = 64 * 1024

const controllerSchema = z.object({ externalId: z.string() })
const codeSchema = z.object({ device_code: z.string().regex(/^\d{6}$/) })

/**
 * On a machine with all three: makes a device code at the control plane and leaves it for the agent controller, which
 * spends it at its next start. One that is registered, or was told how to register, now or by an earlier install, is
 * left alone.
 */
export async function register(env: NodeJS.ProcessEnv = process.env, hostRoot = ''): Promise<number> {
  const envFile = join(hostRoot, layouts.aembit_agent_controller.envFile)
  const told = { ...readKept(envFile), ...env }
  if (told.AEMBIT_DEVICE_CODE || told.AEMBIT_AGENT_CONTROLLER_ID || isRegistered(hostRoot)) return 0
  const token = readFileSync(join(hostRoot, adminTokenPath), 'utf8').trim()
  const name = hostname().slice(0, 64) || 'this machine'
  const { externalId } = controllerSchema.parse(await post('/api/v1/agent-controllers', token, { name }))
  const made = await post(`/api/v1/agent-controllers/${externalId}/device-code`, token, {})
  appendFileSync(envFile, `AEMBIT_DEVICE_CODE=${codeSchema.parse(made).device_code}\n`)
  return 0
}

function isRegistered(hostRoot: string): boolean {
  try {
    const { registration } = JSON.parse(readFileSync(join(hostRoot, statePath), 'utf8')) as {
      registration?: unknown
    }
    return registration !== null && registration !== undefined
  } catch {
    return false
  }
}

function post(path: string, token: string, body: unknown): Promise<unknown> {
  const payload = JSON.stringify(body)
  const headers = {
    host: 'localhost',
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(payload),
  }
  return new Promise((resolve, reject) => {
    const options = {
      socketPath: controlPlaneSockets.public,
      method: 'POST',
      path,
      headers,
      timeout: timeoutMs,
    }
    const sent = request(options, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
        if (text.length > maxBytes) response.destroy(new Error('the control plane answered too much'))
      })
      response.on('error', reject)
      response.on('end', () => {
        const { statusCode = 0 } = response
        if (statusCode < 300) resolve(JSON.parse(text))
        else reject(new Error(`the control plane answered ${statusCode} to ${path}`))
      })
    })
    sent.on('timeout', () => sent.destroy(new Error('the control plane does not answer')))
    sent.on('error', reject)
    sent.end(payload)
  })
}
