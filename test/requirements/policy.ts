import type { Area } from './requirement.ts'

export const policy = {
  title: 'Policy',
  rows: {
    'POLICY-PLACE-01': {
      source: 'Documented surface: AembitGeoIPCondition, MCP client IP; PROXY protocol 2.2',
      text: 'Where the TCP connection comes from decides a condition on place, at the gateway and again for the credential.',
    },
    'POLICY-PLACE-02': {
      source: 'MaxMind DB format 2.0: databases are replaced whole',
      text: 'A GeoIP database that is replaced counts without a restart; a broken one leaves the former in force.',
    },
    'POLICY-GUARD-01': {
      source: 'services/proxy/guard, The hook’s schema',
      text: 'An HTTP guard looks at prompts, resources and errors where it is told to; AIDR is asked what is documented for it.',
    },
    'POLICY-GUARD-02': {
      source: 'services/proxy/guard, The hook’s schema; MCP client/elicitation',
      text: 'A guard changes or stops what a server asks the person in mid-call, and nobody sees what was stopped.',
    },
  },
} as const satisfies Area
