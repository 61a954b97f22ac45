import { type GeoIp, openGeoIp } from '../../../shared/geoip.ts'
import type { Logger } from '../../../shared/log.ts'
import type { Locate } from '../../../shared/policy.ts'
import type { Config } from '../config/schema.ts'

/** The GeoIP database of the configuration in force. */
export interface Places {
  /** Undefined where none is configured. */
  locate(): Locate | undefined
  /** Opens what a new configuration names. Rejects with `config.invalid`; what it gives puts it in force. */
  prepare(config: Pick<Config, 'geoip'>): Promise<() => void>
  /** Whether `prepare` would reject; nothing stays open. */
  check(config: Pick<Config, 'geoip'>): Promise<void>
  close(): void
}

export function createPlaces(log: Logger): Places {
  let current: { path: string; geoip: GeoIp } | undefined
  return {
    locate: () => current?.geoip.locate,
    prepare: async ({ geoip: wanted }) => {
      const path = wanted?.database
      if (path === current?.path) return () => {}
      const next = path === undefined ? undefined : { path, geoip: await openGeoIp(path, log) }
      return () => {
        current?.geoip.close()
        current = next
      }
    },
    check: async ({ geoip }) => {
      if (geoip && geoip.database !== current?.path) (await openGeoIp(geoip.database, log)).close()
    },
    close: () => current?.geoip.close(),
  }
}
