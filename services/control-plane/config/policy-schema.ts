import { z } from 'zod'
import { compileCel } from '../../../shared/policy/cel.ts'
import { globProblem } from '../../../shared/policy/glob.ts'
import { isTimeZone, minutesOf, weekDays } from '../../../shared/policy/time.ts'
import { guardPhases } from '../../../shared/wire/content-security.ts'
import { id, networks, text, webUrl } from './fields.ts'
import type { Secret } from './secret.ts'

type SecretSchema = z.ZodType<Secret>

/** Access conditions and tool access control, in the field names of the product's REST API. */
const timeOfDay = z
  .string()
  .regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'is no time of day, write HH:mm from 00:00 to 23:59, in quotes')
const endOfWindow = z
  .string()
  .regex(/^(([01]\d|2[0-3]):[0-5]\d|24:00)$/, 'is no time of day, write HH:mm from 00:00 to 24:00, in quotes')

const window = z
  .strictObject({
    startTime: timeOfDay,
    endTime: endOfWindow,
    weekDay: z.strictObject({ name: z.enum(weekDays), ordinal: z.number().int().min(0).max(7).optional() }),
  })
  .refine(({ startTime, endTime }) => minutesOf(startTime) !== minutesOf(endTime), {
    path: ['endTime'],
    message: 'is startTime again, which is no time at all; write 00:00 to 24:00 for a whole day',
  })

const alpha2 = z.string().regex(/^[A-Z]{2}$/, 'is no country, write ISO 3166-1 alpha-2 in capitals, as in DE')
const subdivision = z
  .string()
  .regex(
    /^([A-Z]{2}-)?[A-Z0-9]{1,3}$/,
    'is no subdivision, write ISO 3166-2 in capitals, as in US-CA or CA, in quotes where it is a number',
  )

const location = z
  .strictObject({
    alpha2Code: alpha2,
    shortName: text.optional(),
    subdivisions: z.array(subdivision).max(500).default([]),
  })
  .refine(
    ({ alpha2Code, subdivisions }) =>
      subdivisions.every((code) => !code.includes('-') || code.startsWith(`${alpha2Code}-`)),
    { path: ['subdivisions'], message: 'names a subdivision of another country, move it there' },
  )

const expression = z
  .string()
  .min(1, 'is empty, write a condition')
  .superRefine((value, context) => {
    try {
      compileCel(value)
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) })
    }
  })

export const accessCondition = z.discriminatedUnion('type', [
  z.strictObject({
    id,
    name: text.optional(),
    type: z.literal('AembitTimeCondition'),
    timezone: z.string().refine(isTimeZone, 'is no IANA time zone, write one like Europe/Berlin'),
    schedule: z.array(window).min(1).max(200),
  }),
  z.strictObject({
    id,
    name: text.optional(),
    type: z.literal('AembitGeoIPCondition'),
    locations: z.array(location).min(1).max(300),
  }),
  z.strictObject({ id, name: text.optional(), type: z.literal('CelCondition'), expression }),
])

const glob = z.string().superRefine((value, context) => {
  const problem = globProblem(value)
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
})
const entries = z.array(glob).max(1000)
const scope = z.enum(['All', 'Specific'])

const toolAccessControl = z
  .strictObject({
    id,
    name: text.optional(),
    type: z.literal('AembitMcpToolAccessControl'),
    mode: z.enum(['Allow', 'Block']),
    visibility: scope,
    visibilityEntries: entries.optional(),
    invocation: scope,
    invocationEntries: entries.optional(),
    prompts: z.enum(['All', 'None']).default('All'),
    resources: z.enum(['All', 'None']).default('All'),
  })
  .superRefine((control, context) => {
    for (const side of ['visibility', 'invocation'] as const) {
      if (control[side] === 'All' && control[`${side}Entries`] !== undefined) {
        context.addIssue({
          code: 'custom',
          path: [`${side}Entries`],
          message: `counts with ${side}: Specific alone, remove it or change ${side}`,
        })
      }
    }
  })
  .transform(({ visibilityEntries = [], invocationEntries = [], ...rest }) => ({
    ...rest,
    visibilityEntries,
    invocationEntries,
  }))

/** What every service that looks at content has. */
const guardFields = (timeout: { least: number; most: number }, failOpen: boolean) => ({
  id,
  name: text.optional(),
  failOpen: z.boolean().default(failOpen),
  timeoutMs: z.number().int().min(timeout.least).max(timeout.most).default(5000),
  maxRetries: z.number().int().min(0).max(10).default(2),
  allowedNetworks: networks,
})

/** Needs the reader of secrets, so it is made with the rest of the file's schema. */
export function createContentSecurity(secret: SecretSchema) {
  const aidr = z.strictObject({
    type: z.literal('CrowdStrikeAIDR'),
    baseUrl: webUrl,
    encryptedToken: secret,
    ...guardFields({ least: 5000, most: 600_000 }, true),
  })
  const httpGuard = z.strictObject({
    type: z.literal('HttpGuard'),
    url: webUrl,
    token: secret.optional(),
    checks: z.array(z.enum(guardPhases)).min(1).default(['listing', 'input', 'output']),
    ...guardFields({ least: 100, most: 600_000 }, false),
  })
  return z.discriminatedUnion('type', [toolAccessControl, aidr, httpGuard])
}

/** The variables that an expression reads; none where it does not compile, which is told elsewhere. */
export function celReads(source: string): string[] {
  try {
    return [...compileCel(source).reads]
  } catch {
    return []
  }
}
