/**
 * What sd_listen_fds(3) says: descriptors from 3 on, meant for this process, by the name that the socket unit gives
 * them (FileDescriptorName=) where it is one of `names`, else in the order of `names`. Empty without socket units.
 */
export function inheritedFds(
  env: Readonly<Record<string, string | undefined>>,
  pid: number,
  names: readonly string[],
): Map<string, number> {
  const count = Number(env.LISTEN_FDS)
  if (Number(env.LISTEN_PID) !== pid || !Number.isInteger(count) || count <= 0) return new Map()
  const told = env.LISTEN_FDNAMES?.split(':') ?? []
  return new Map(
    Array.from({ length: count }, (_, at): [string, number] => {
      const name = told[at]
      return [name !== undefined && names.includes(name) ? name : (names[at] ?? `fd${at}`), 3 + at]
    }),
  )
}
