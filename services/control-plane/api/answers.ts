import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'

/** What all list endpoints take. */
export const pageQuery = z.object({
  page: z.coerce.number().int().min(1).max(1_000_000).default(1),
  'per-page': z.coerce.number().int().min(1).max(1000).default(50),
})

/** GenericResponseDTO. `id` is a number there: the request's own, to find it in the log. */
export function answer(
  request: FastifyRequest,
  reply: FastifyReply,
  status: number,
  message: string,
): FastifyReply {
  const id = Number.parseInt(String(request.id).replace(/\D/g, ''), 10)
  return reply.code(status).send({ success: false, message, id: Number.isNaN(id) ? 0 : id })
}

export function list<T>(
  entities: T[],
  page: number,
  perPage: number,
  recordsTotal: number,
  order: 'asc' | 'desc',
) {
  return { page, perPage, order, statusCode: 200, recordsTotal, entities }
}

/** Throws an error of status 400 that names every field that does not fit. */
export function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const what = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'body'}: ${issue.message}`)
  throw Object.assign(new Error(what.join('; ')), { statusCode: 400 })
}
