import { readFileSync } from 'node:fs'

/** Clock ticks per second of /proc (sysconf(_SC_CLK_TCK)): 100 on every Linux that Node runs on. */
const ticksPerSecond = 100

/** CPU time of a process with all its threads, seconds; 0 where it is gone (proc(5): utime and stime). */
export function cpuSeconds(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
  } catch {
    return 0
  }
}
export const cpuOf = (pids: readonly number[]): number => pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0)
