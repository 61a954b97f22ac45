import { type FSWatcher, watch } from 'node:fs'
import { open } from 'node:fs/promises'
import { isIP } from 'node:net'
import { LRUCache } from 'lru-cache'
import { type CityResponse, Reader } from 'mmdb-lib'
import { Fault } from './faults.ts'
import type { Logger } from './log.ts'
import type { Locate, Location } from './policy.ts'

/** The largest City database there is has a third of it. */
const maxBytes = 512 * 1024 * 1024
const maxCached = 20_000
/** A new file is often written in pieces; it is read when it has been quiet for so long. */
const settleMs = 1_000

export interface GeoIp {
  readonly locate: Locate
  /** Reads the file again. Rejects with `config.invalid` and keeps what there is. */
  reload(): Promise<void>
  close(): void
}

/**
 * A MaxMind-format database (.mmdb: GeoLite2 or GeoIP2 Country or City, DB-IP, IPinfo in that layout) that the operator
 * supplies and replaces at any time; a new file is taken by itself. Throws `config.invalid` where there is none that reads.
 */
export async function openGeoIp(path: string, log: Logger): Promise<GeoIp> {
  let reader = await read(path)
  const known = new LRUCache<string, { location: Location | undefined }>({ max: maxCached })
  const reload = async (): Promise<void> => {
    reader = await read(path)
    known.clear()
    log.info({ path, built: reader.metadata.buildEpoch }, 'GeoIP database read again')
  }

  let timer: NodeJS.Timeout | undefined
  let watcher: FSWatcher | undefined
  const changed = (): void => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      follow()
      reload().catch((error: unknown) => {
        const { detail } = Fault.from(error)
        log.error({ path, detail }, 'GeoIP database is not readable; the former one stays')
      })
    }, settleMs)
    timer.unref()
  }
  /** A file that is replaced by rename is another file: it has to be watched anew. */
  const follow = (): void => {
    watcher?.close()
    try {
      watcher = watch(path, { persistent: false }, changed)
      watcher.on('error', () => {})
    } catch (error) {
      log.warn({ path, err: error }, 'GeoIP database is not watched; restart to read a new one')
    }
  }
  follow()

  return {
    locate: (address) => {
      const before = known.get(address)
      if (before) return before.location
      const location = find(reader, address)
      known.set(address, { location })
      return location
    },
    reload,
    close: () => {
      clearTimeout(timer)
      watcher?.close()
    },
  }
}

function find(reader: Reader<CityResponse>, address: string): Location | undefined {
  const plain = address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '')
  if (isIP(plain) === 0) return undefined
  try {
    const found = reader.get(plain)
    const country = found?.country?.iso_code
    if (typeof country !== 'string') return undefined
    const parts = (found?.subdivisions ?? []).map((part) => part.iso_code)
    return { country, subdivisions: parts.filter((code) => typeof code === 'string') }
  } catch {
    // A database without IPv6, or one that is damaged at this place: nobody is located by it.
    return undefined
  }
}

async function read(path: string): Promise<Reader<CityResponse>> {
  try {
    const file = await open(path, 'r')
    try {
      const { size } = await file.stat()
      if (size > maxBytes) throw new Error(`it has ${size} bytes, which is more than ${maxBytes}`)
      return new Reader<CityResponse>(await file.readFile())
    } finally {
      await file.close()
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new Fault('config.invalid', {
      detail: `GeoIP database ${path} can not be read (${why}); supply a MaxMind-format file (.mmdb) of type City or Country`,
      cause: error,
    })
  }
}
