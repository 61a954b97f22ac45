import type { Area } from './requirement.ts'

export const operations = {
  title: 'Operations',
  rows: {
    'OPS-METRICS-01': {
      source: 'docs/operators.md, Metrics',
      text: 'GET /metrics shows every documented metric with its type and labels after traffic of every kind.',
    },
    'OPS-METRICS-02': {
      source: 'docs/operators.md, Metrics',
      text: 'No counter goes back when a process is replaced or killed.',
    },
    'OPS-METRICS-03': {
      source: 'docs/operators.md, Metrics',
      text: 'Neither a client nor a server can make a label value that the table of metrics does not have.',
    },
    'OPS-HEALTH-01': {
      source: 'docs/operators.md, Health',
      text: 'GET /readyz turns 503 with its reason after three failed looks for the control plane in a row, and each change of a probe is counted.',
    },
    'OPS-ALERTS-01': {
      source: 'docs/operators.md, Alerts',
      text: 'Every alert fires on its fault and is silent on a healthy gateway; dashboard and alerts name metrics of the table alone.',
    },
    'OPS-CLI-01': {
      source: 'Product: aembit_control_plane, the kill switch at 3 a.m.',
      text: 'The command shuts out and lets in again, explains a decision, rotates keys and says how it is.',
    },
    'OPS-CLI-02': {
      source: 'Product: aembit_control_plane check, apply --dry-run',
      text: 'The command says what a configuration would change, without a secret, and applies all of it or nothing.',
    },
    'OPS-CLI-03': {
      source: 'House rule: every problem at once',
      text: 'Every problem of a command line is told at once, and exit codes tell a no from a control plane that is away.',
    },
    'KEYS-01': {
      source: 'RFC 7517; NIST SP 800-57, 5.5',
      text: 'Running gateways take tokens of the former and the next signing key, and none of a compromised one.',
    },
    'OPS-STATUS-01': {
      source: 'docs/operators.md, Is it well?',
      text: 'status shows each process, the certificate’s end, the age of the policy, the spool and what is wrong, also as JSON.',
    },
    'OPS-DOCTOR-01': {
      source: 'docs/operators.md, Doctor',
      text: 'doctor walks the way of a client and names the first thing that is wrong and what to do, whether or not the gateway runs.',
    },
  },
} as const satisfies Area
