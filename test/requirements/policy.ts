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
      text: 'An HTTP guard looks at prompts, resources, their lists, completions and errors where it is told to; AIDR is asked what is documented for it.',
    },
    'POLICY-GUARD-02': {
      source: 'services/proxy/guard, The hook’s schema; MCP client/elicitation',
      text: 'A guard changes or stops what a server asks the person in mid-call, and nobody sees what was stopped.',
    },
    'POLICY-PLACE-03': {
      source: 'MaxMind DB format 2.0; RFC 4291, 2.5.5.2',
      text: 'Addresses of either family are located, mapped ones as what they map.',
    },
    'POLICY-PLACE-04': {
      source: 'House rule: errors for an operator',
      text: 'A database that is none is told with its path and what to do.',
    },
    'POLICY-PLACE-05': {
      source: 'Documented surface: client and browser address must both pass',
      text: 'A token says where the browser was where a condition on place is in force, and else not.',
    },
    'POLICY-03': {
      source: 'OpenID Connect Core 1.0, 5.1; architecture, trust borders',
      text: 'No identity provider sets a claim that is ours to say.',
    },
    'POLICY-04': {
      source: 'Documented surface: client workload identities',
      text: 'Of several client workloads that fit, the identity that says most wins, wherever it stands.',
    },
    'POLICY-05': {
      source: 'Architecture: snapshots hold no secret',
      text: 'Compiling a configuration is deterministic and gives gateways no secret.',
    },
    'POLICY-06': {
      source: 'docs/policy.md, explain',
      text: 'The documented sample loads, and a denial is explained with the policy and the rule that decide.',
    },
    'POLICY-07': {
      source: 'Product: golden cases for auditors',
      text: 'At least 150 golden cases say input, decision and reason.',
    },
    'POLICY-TOOLS-01': {
      source: 'Documented surface: MCP Tool Access Control, visibility',
      text: 'A hidden tool is not listed and stays callable unless invocation blocks it.',
    },
    'POLICY-TOOLS-02': {
      source: 'Documented surface: MCP Tool Access Control, invocation',
      text: 'A blocked tool does not reach its server, whatever the client.',
    },
    'POLICY-TOOLS-03': {
      source: 'Documented surface: Specific with an empty list',
      text: 'Specific without an entry: Allow lets nothing through, Block everything.',
    },
    'POLICY-TOOLS-04': {
      source: 'Policy: every content security of a policy counts',
      text: 'Of two controls both must let a tool through.',
    },
    'POLICY-TOOLS-05': {
      source: 'docs/policy.md, Tool access control',
      text: 'Prompts and resources of a server can be switched off.',
    },
    'POLICY-TIME-01': {
      source: 'Documented surface: AembitTimeCondition',
      text: 'A condition on time is asked at each request, on either side of its edge.',
    },
    'POLICY-GUARD-03': {
      source: 'CrowdStrike AIDR API, guard_chat_completions',
      text: 'AIDR sees listings, arguments and results in the shape of its API.',
    },
    'POLICY-GUARD-04': {
      source: 'CrowdStrike AIDR API: blocked, transformed',
      text: 'What AIDR changes goes on changed, what it blocks does not, and no event holds content.',
    },
    'POLICY-GUARD-05': {
      source: 'Documented surface: tool access control runs before AIDR',
      text: 'A guard is not asked for what tool access control stops.',
    },
    'POLICY-GUARD-06': {
      source: 'services/proxy/guard, The hook’s schema',
      text: 'An HTTP guard allows, changes or blocks; nonsense counts as no answer, and prose is dropped.',
    },
    'POLICY-GUARD-07': {
      source: 'Documented surface: failOpen, timeoutMs, maxRetries',
      text: 'Without an answer failOpen decides; what may pass by itself is tried again.',
    },
    'POLICY-CEL-HOSTILE': {
      source: 'OWASP, denial of service and injection; house rule: bounded everything',
      text: 'Expressions that would cost too much or reach out are refused when they are read; what claims and arguments hold is bounded.',
    },
    'POLICY-GUARD-09': {
      source: 'Documented surface: content security checks outputs of calls',
      text: 'What a server says beside its answer goes around no guard: progress and log messages are looked at, or come without words.',
    },
    'POLICY-GUARD-10': {
      source: 'RFC 8259, 4: names within an object',
      text: 'A client gets what a guard looked at, not the bytes that it was read from.',
    },
    'POLICY-GUARD-08': {
      source: 'OWASP SSRF prevention',
      text: 'A guard in private space that its networks do not open is not asked.',
    },
    'KILL-03': {
      source: 'Documented surface: kill switch by token; RFC 7519, jti',
      text: 'A token that is shut out is refused with 401, and a refresh brings another.',
    },
    'KILL-04': {
      source: 'Architecture: revocations act within a second',
      text: 'A blocked person can neither refresh nor sign in.',
    },
    'ATTACK-01': {
      source: 'REVIEW.md, Proof',
      text: 'What the table of attacks is refused works for who is entitled to it.',
    },
    'ATTACK-02': {
      source: 'RFC 9700; MCP security best practices; docs/attacks.md',
      text: 'The table of attacks that auditors read is the one that ran.',
    },
    'CRED-44': {
      source: 'MCP client/elicitation, URL mode',
      text: 'A connect link works once, and not for another server or when it was changed.',
    },
    'CRED-45': {
      source: 'Architecture, Credential: decided once more',
      text: 'Who may not use a server gets neither link nor page.',
    },
    'CRED-46': {
      source: 'Architecture, Credential',
      text: 'A policy that is gone takes the credential with it.',
    },
    'CRED-47': {
      source: 'RFC 9700, 4.4 mix-up',
      text: 'A configured client is used only at the server it was first used at.',
    },
    'CRED-48': {
      source: 'RFC 6749, 5.2',
      text: 'A token service that is down for now is told from one that says no.',
    },
    'CRED-49': {
      source: 'OWASP SSRF prevention',
      text: 'A token service in a private network that nobody allowed is not asked.',
    },
    'CRED-50': {
      source: 'Google STS v1 token; IAM generateAccessToken',
      text: 'Google Cloud federation gives a token, and a service account for it.',
    },
    'CRED-51': {
      source: 'Microsoft identity platform: client credentials with a federated credential',
      text: 'Microsoft Entra takes a token of ours as the client assertion.',
    },
    'POLICY-APPLY-01': {
      source: 'services/control-plane/README.md, reload',
      text: 'Policy, agent controllers and directory of a configuration are in force together, or none of them.',
    },
    'CRED-52': {
      source: 'Documented surface: aembit-access-token',
      text: 'A token for the administration API carries its role there while its provider gives it and the kill switch does not name it, and no other token of ours does.',
    },
    'CRED-53': {
      source: 'Documented surface: oauth-authorization-code, admin-authorized',
      text: 'A shared account is authorized once and used by everyone whom policy lets through.',
    },
    'CRED-54': {
      source: 'House rule: one owner of state',
      text: 'A state folder has one owner until it ends.',
    },
    'OAUTH-50': {
      source: 'RFC 7009; MCP security best practices, consent',
      text: 'A person withdraws what they allowed: tokens end and the agent has to ask again.',
    },
    'OAUTH-51': {
      source: 'RFC 7009, 2.1; RFC 9700, 4.14.2',
      text: 'Revoking a refresh token, or replaying one, takes its access tokens with it.',
    },
  },
} as const satisfies Area
