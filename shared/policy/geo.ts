import type { GeoIpCondition } from '../wire/snapshot.ts'
import type { Circumstances, Location, Principal } from './types.ts'

/** The claim of our access tokens with the address of the browser that the person signed in with. */
export const browserIpClaim = 'browser_ip'

export interface GeoAnswer {
  readonly reason: 'geoip_mismatch' | 'geoip_unavailable'
  readonly text: string
}

/**
 * Undefined where every address that speaks for the request is in one of the locations, else why not. The MCP client's
 * address always counts; where the person signed in with a browser, that browser's counts as well.
 */
export function compileGeo(
  condition: GeoIpCondition,
): (principal: Principal, circumstances: Circumstances) => GeoAnswer | undefined {
  const places = new Map<string, Set<string> | null>()
  for (const { alpha2Code, subdivisions } of condition.locations) {
    const known = places.get(alpha2Code)
    // A country named once without subdivisions is meant whole.
    if (subdivisions.length === 0 || known === null) places.set(alpha2Code, null)
    else places.set(alpha2Code, new Set([...(known ?? []), ...subdivisions.map(secondPart)]))
  }
  const fits = ({ country, subdivisions }: Location): boolean => {
    const wanted = places.get(country)
    return wanted === null || (wanted?.size ? subdivisions.some((code) => wanted.has(code)) : false)
  }
  const check = (who: string, address: string | undefined, { locate }: Circumstances) => {
    if (!locate) return { reason: 'geoip_unavailable', text: 'no GeoIP database is loaded.' } as const
    if (address === undefined)
      return { reason: 'geoip_unavailable', text: `the address of ${who} is not known.` } as const
    const location = locate(address)
    if (!location)
      return {
        reason: 'geoip_mismatch',
        text: `the GeoIP database does not know the address of ${who}.`,
      } as const
    if (!fits(location)) return { reason: 'geoip_mismatch', text: `${who} is at another place.` } as const
    return undefined
  }
  return (principal, circumstances) => {
    const browser = principal.claims[browserIpClaim]
    return (
      check('the MCP client', circumstances.clientIp, circumstances) ??
      (typeof browser === 'string' ? check('the browser', browser, circumstances) : undefined)
    )
  }
}

/** `US-CA` and `CA` are the same subdivision of a country that is named beside it. */
const secondPart = (code: string): string => code.slice(code.indexOf('-') + 1)
