const sentinel = /^=\?base64\?.*\?=$/

/**
 * A value for Mcp-Name and Mcp-Param-* headers: as it is where a header can carry it, else in the base64 form
 * (MCP 2026-07-28, streamable HTTP, header encoding).
 */
export function encodeHeaderValue(value: string): string {
  const plain = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value) && !sentinel.test(value)
  return plain ? value : `=?base64?${Buffer.from(value, 'utf8').toString('base64')}?=`
}
