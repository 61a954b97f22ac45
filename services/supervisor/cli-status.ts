import type { GatewayStatus, ProcessStatus } from './status.ts'

/**
 * `status` for a person: what is wrong first, then one row per process, then one line for each thing that may go wrong.
 * `all`: every figure of every process too.
 */
export function printStatus(status: GatewayStatus, now: number, all = false): string {
  const head = status.ready
    ? [`ready    ${status.url}`]
    : [`NOT READY  ${status.url}`, ...status.reasons.map((reason) => `  ! ${reason}`)]
  const rows = status.processes.map((row) => [
    row.name,
    row.pid === null ? '-' : String(row.pid),
    row.state,
    age(row.uptimeSecs),
    String(row.restarts),
    `${row.lagMs.toFixed(0)} ms`,
    megabytes(row.rssBytes),
    row.lastError ? `${row.lastError.text} (${age((now - Date.parse(row.lastError.at)) / 1000)} ago)` : '-',
  ])
  const columns = ['process', 'pid', 'state', 'uptime', 'restarts', 'lag', 'memory', 'last error']
  return [
    ...head,
    ...status.warnings.map((warning) => `  ~ ${warning}`),
    '',
    ...table([columns, ...rows]),
    '',
    `policy   ${
      status.snapshot
        ? `version ${status.snapshot.version}, confirmed ${age(status.snapshot.ageSecs)} ago`
        : 'none yet: every request is refused until sync has fetched one'
    }`,
    ...summary(status, now),
    ...spares(status),
    `gateway  version ${status.version}, pid ${status.pid}, up ${age(status.uptimeSecs)}, settings ${status.configDigest.slice(0, 12)}`,
    ...(status.lastReload ? [reloadLine(status.lastReload, now)] : []),
    ...(all ? ['', ...status.processes.flatMap(figures)] : []),
  ].join('\n')
}

function summary({ summary }: GatewayStatus, now: number): string[] {
  const { certificate, controlPlane, spool, traffic } = summary
  const until = (iso: string): string => {
    const secs = (Date.parse(iso) - now) / 1000
    return secs > 0 ? `in ${age(secs)}` : `${age(-secs)} AGO`
  }
  const lines: [string, string][] = []
  if (certificate) {
    const { expiresAt, renewalAt, selfSigned, failures, lastError } = certificate
    lines.push([
      'tls',
      [
        selfSigned
          ? 'SELF-SIGNED until the first certificate is issued: no client trusts it'
          : `certificate ends ${until(expiresAt)} (${expiresAt.slice(0, 10)})`,
        ...(renewalAt ? [`renewal ${Date.parse(renewalAt) > now ? until(renewalAt) : 'is due'}`] : []),
        ...(failures > 0 ? [`FAILED ${failures} times: ${lastError}`] : []),
      ].join(', '),
    ])
  }
  if (controlPlane) {
    const { state, enrolmentExpiresAt, clockSkewMs, lastError } = controlPlane
    const skewed = Math.abs(clockSkewMs) > 5_000
    lines.push([
      'cloud',
      [
        `control plane ${state === 'away' ? 'AWAY' : state}`,
        ...(lastError ? [lastError] : []),
        ...(enrolmentExpiresAt ? [`enrolment ends ${until(enrolmentExpiresAt)}`] : []),
        ...(skewed ? [`its clock is ${Math.round(clockSkewMs / 1000)} s from ours`] : []),
      ].join(', '),
    ])
  }
  if (spool) {
    const { files, lagSecs, shipped, lost } = spool
    const waiting = files === 0 ? 'none wait' : `${files} files wait, the oldest for ${age(lagSecs)}`
    lines.push(['events', `${shipped} stored, ${waiting}${lost > 0 ? `, ${lost} LOST` : ''}`])
  }
  const { activeRequests, connections, sessions, sessionStore } = traffic
  lines.push([
    'traffic',
    `${activeRequests} requests run, ${connections} connections, ${sessions} sessions (${sessionStore})`,
  ])
  return lines.map(([name, text]) => `${name.padEnd(8)} ${text}`)
}

function spares({ spares }: GatewayStatus): string[] {
  if (spares.length === 0) return []
  const each = spares.map(({ role, pid, rssBytes }) => `${role} (pid ${pid ?? '-'}, ${megabytes(rssBytes)})`)
  return [`spares   ${each.join(', ')}`]
}

const megabytes = (bytes: number): string => `${Math.round(bytes / 1048576)} MB`

function reloadLine({ at, problems }: { at: string; problems: readonly string[] }, now: number): string {
  const when = `${age((now - Date.parse(at)) / 1000)} ago`
  return problems.length === 0
    ? `reload   accepted ${when}`
    : `reload   REFUSED ${when}, the settings before it run:\n${problems.map((problem) => `  ! ${problem}`).join('\n')}`
}

const figures = ({ name, stats }: ProcessStatus): string[] => {
  const entries = Object.entries(stats)
  return entries.length === 0
    ? []
    : [`${name.padEnd(8)} ${entries.map(([key, value]) => `${key}=${value}`).join(' ')}`]
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)))
  return rows.map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

/** 45s, 12m, 3h 5m, 2d 4h. */
export function age(secs: number): string {
  const whole = Math.max(0, Math.floor(secs))
  if (whole < 60) return `${whole}s`
  if (whole < 3600) return `${Math.floor(whole / 60)}m`
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h ${Math.floor((whole % 3600) / 60)}m`
  return `${Math.floor(whole / 86_400)}d ${Math.floor((whole % 86_400) / 3600)}h`
}
