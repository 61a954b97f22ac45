/** Series as promtool writes them: a start, a step per minute, how often. */
export type Series = Readonly<Record<string, string>>

const steady = (value: number): string => `${value}x240`
const rising = (perMinute: number): string => `0+${perMinute}x240`
const g = 'aembit_mcp_gateway'
const u = `${g}_upstream_mcp_server`
const of = (labels: string): string =>
  `{instance="gw:9091",job="aembit-mcp-gateway"${labels && `,${labels}`}}`

/** A gateway with some traffic and nothing wrong. Time begins at 0, so ends of certificates are seconds from now. */
export const healthy: Series = {
  [`up${of('')}`]: steady(1),
  [`${g}_ready${of('')}`]: steady(1),
  [`${g}_process_crash_loop${of('process="proxy-0"')}`]: steady(0),
  [`${g}_process_restarts${of('process="proxy-0"')}`]: steady(2),
  [`${g}_process_event_loop_lag_seconds${of('process="proxy-0"')}`]: steady(0.02),
  [`${g}_readiness_probe_flaps_total${of('probe="cloud"')}`]: steady(2),
  [`${g}_policy_age_seconds${of('')}`]: steady(5),
  [`${g}_policy_max_age_seconds${of('')}`]: steady(3600),
  [`${g}_control_plane_connected${of('')}`]: steady(1),
  [`${g}_enrolment_expiry_timestamp_seconds${of('')}`]: '900+60x240',
  [`${g}_control_plane_clock_skew_seconds${of('')}`]: steady(0.2),
  [`${g}_event_spool_lag_seconds${of('')}`]: steady(1),
  [`${g}_events_lost_total${of('reason="dropped"')}`]: steady(0),
  [`${g}_certificate_expiry_timestamp_seconds${of('')}`]: steady(60 * 86_400),
  [`${g}_certificate_self_signed${of('')}`]: steady(0),
  [`${g}_acme_consecutive_failures${of('')}`]: steady(0),
  [`${g}_auth_failures_total${of('tenant_id="t",reason="invalid_token"')}`]: rising(12),
  [`${g}_jwks_refresh_attempts_total${of('tenant_id="t",outcome="error"')}`]: steady(1),
  [`${g}_jwks_refresh_attempts_total${of('tenant_id="t",outcome="success"')}`]: rising(1),
  [`${g}_mcp_requests_processed_total${of('tenant_id="t",method="tools/call",outcome="success"')}`]:
    rising(600),
  [`${g}_mcp_requests_processed_total${of('tenant_id="t",method="tools/call",outcome="error"')}`]: rising(6),
  [`${g}_mcp_request_duration_seconds_bucket${of('tenant_id="t",method="tools/call",le="1"')}`]: rising(600),
  [`${g}_mcp_request_duration_seconds_bucket${of('tenant_id="t",method="tools/call",le="30"')}`]: rising(606),
  [`${g}_mcp_request_duration_seconds_bucket${of('tenant_id="t",method="tools/call",le="+Inf"')}`]:
    rising(606),
  [`${u}_http_requests_total${of('tenant_id="t",method="tools/call",outcome="success"')}`]: rising(600),
  [`${u}_http_requests_total${of('tenant_id="t",method="tools/call",outcome="error"')}`]: rising(6),
  [`${u}_fanout_workloads_total${of('tenant_id="t",method="tools/list"')}`]: rising(30),
  [`${u}_fanout_workloads_failed_total${of('tenant_id="t",method="tools/list"')}`]: steady(1),
  [`${g}_session_store_up${of('')}`]: steady(1),
  [`${g}_aidr_guard_decisions_total${of('tenant_id="t",outcome="fail_open"')}`]: steady(0),
}

/** A certificate of six days, before its renewal is due. */
export const shortLived: Series = {
  [`${g}_certificate_expiry_timestamp_seconds${of('')}`]: steady(40_000),
  [`${g}_certificate_renewal_timestamp_seconds${of('')}`]: steady(20_000),
}

const with_ = (name: string, labels: string, values: string): Series => ({ [`${name}${of(labels)}`]: values })
const tenant = 'tenant_id="t"'

/** What is put over the healthy gateway, and the alert that has to fire for it. */
export const faults: Readonly<Record<string, Series>> = {
  McpGatewayDown: with_('up', '', steady(0)),
  McpGatewayNotReady: with_(`${g}_ready`, '', steady(0)),
  McpGatewayProcessCrashLoop: with_(`${g}_process_crash_loop`, 'process="proxy-0"', steady(1)),
  McpGatewayProcessStalls: with_(`${g}_process_event_loop_lag_seconds`, 'process="proxy-0"', steady(0.8)),
  McpGatewayProbeFlaps: with_(`${g}_readiness_probe_flaps_total`, 'probe="cloud"', '0+1x240'),
  McpGatewayPolicyOld: with_(`${g}_policy_age_seconds`, '', '0+60x240'),
  McpGatewayControlPlaneAway: with_(`${g}_control_plane_connected`, '', steady(0)),
  McpGatewayEnrolmentEnds: with_(`${g}_enrolment_expiry_timestamp_seconds`, '', steady(7200)),
  McpGatewayClockWrong: with_(`${g}_control_plane_clock_skew_seconds`, '', steady(-45)),
  McpGatewaySpoolLags: with_(`${g}_event_spool_lag_seconds`, '', '0+60x240'),
  McpGatewayEventsLost: with_(`${g}_events_lost_total`, 'reason="dropped"', '0+3x240'),
  McpGatewayCertificateExpires: with_(`${g}_certificate_expiry_timestamp_seconds`, '', steady(3 * 86_400)),
  McpGatewayCertificateExpiresSoon: with_(`${g}_certificate_expiry_timestamp_seconds`, '', steady(50_000)),
  McpGatewayRenewalLate: {
    ...with_(`${g}_certificate_expiry_timestamp_seconds`, '', steady(10_000)),
    ...with_(`${g}_certificate_renewal_timestamp_seconds`, '', steady(60)),
  },
  McpGatewaySelfSigned: with_(`${g}_certificate_self_signed`, '', steady(1)),
  McpGatewayAcmeFails: with_(`${g}_acme_consecutive_failures`, '', steady(4)),
  McpGatewayAuthFailures: with_(
    `${g}_auth_failures_total`,
    `${tenant},reason="invalid_token"`,
    '0+1x108 200+600x130',
  ),
  McpGatewayJwksFails: {
    ...with_(`${g}_jwks_refresh_attempts_total`, `${tenant},outcome="error"`, rising(1)),
    ...with_(`${g}_jwks_refresh_attempts_total`, `${tenant},outcome="success"`, steady(3)),
  },
  McpGatewayErrors: with_(
    `${g}_mcp_requests_processed_total`,
    `${tenant},method="tools/call",outcome="error"`,
    rising(400),
  ),
  McpGatewaySlow: with_(
    `${g}_mcp_request_duration_seconds_bucket`,
    `${tenant},method="tools/call",le="1"`,
    rising(10),
  ),
  McpGatewayUpstreamErrors: with_(
    `${u}_http_requests_total`,
    `${tenant},method="tools/call",outcome="error"`,
    rising(400),
  ),
  McpGatewayFanOutFails: with_(
    `${u}_fanout_workloads_failed_total`,
    `${tenant},method="tools/list"`,
    rising(10),
  ),
  McpGatewaySessionStoreDown: with_(`${g}_session_store_up`, '', steady(0)),
  McpGatewayCredentialsUnavailable: with_(
    `${g}_credential_answers_total`,
    `${tenant},outcome="unavailable"`,
    rising(2),
  ),
  McpGatewayGuardFails: with_(`${g}_aidr_guard_decisions_total`, `${tenant},outcome="fail_open"`, rising(2)),
}
