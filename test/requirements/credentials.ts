import type { Area } from './requirement.ts'

export const credentials = {
  title: 'Credentials',
  rows: {
    'CRED-01': {
      source: 'Seed reference: agents never receive downstream credentials',
      text: 'What goes to a server is its credential and nothing of the client.',
    },
    'CRED-02': {
      source: 'RFC 6750, 3.1',
      text: 'A credential that the server refuses is asked for anew, once.',
    },
    'CRED-03': {
      source: 'MCP 2025-11-25 client/elicitation, URL Mode',
      text: 'An account that is not connected yet is answered with the link.',
    },
    'CRED-04': {
      source: 'Seed reference: credential caching in memory',
      text: 'A credential is asked once per user, agent and server, however many want it, and for each set of claims of a token of another issuer.',
    },
    'CRED-05': {
      source: 'Documented surface: caches of 60 s',
      text: 'A credential is kept for 60 s or to its end, and refreshed ahead.',
    },
    'CRED-06': {
      source: 'ARCHITECTURE, Credential',
      text: 'Links and refusals are asked again each time.',
    },
    'CRED-07': {
      source: 'ARCHITECTURE, Credential: invalidation',
      text: 'An invalidation acts at once, also on an answer that is on its way.',
    },
    'CRED-08': {
      source: 'ARCHITECTURE, Credential: invalidation',
      text: 'A gap in the invalidations empties the cache.',
    },
    'CRED-09': {
      source: 'ARCHITECTURE: losing any child never takes another down',
      text: 'Sync goes and comes back; nothing old is used meanwhile.',
    },
    'CRED-10': {
      source: 'RFC 6749, 6; RFC 9700, 4.14',
      text: 'Fifty parallel questions over an expired token make one refresh per person.',
    },
    'CRED-11': {
      source: 'RFC 6749, 6',
      text: 'A token is renewed before it ends, and the rotated refresh token is the next one used.',
    },
    'CRED-12': {
      source: 'RFC 6749, 5.2',
      text: 'A refresh that fails for now keeps the old token while it lives.',
    },
    'CRED-13': {
      source: 'RFC 6749, 5.2 invalid_grant',
      text: 'A grant that ended breaks the connection and asks its owner.',
    },
    'CRED-14': {
      source: 'NIST SP 800-38D; threat model of the vault',
      text: 'Sealed values open with their context alone.',
    },
    'CRED-15': {
      source: 'RFC 7009',
      text: 'Disconnecting forgets here and revokes there.',
    },
    'CRED-16': {
      source: 'MCP 2025-11-25 client/elicitation, Safe URL Handling',
      text: 'A link that was made for someone else connects nothing.',
    },
    'CRED-17': {
      source: 'House rule: no secret in a log',
      text: "No line of the log holds a secret of a connection's whole life.",
    },
    'CRED-18': {
      source: 'RFC 8707, 2; RFC 7636, 4.3',
      text: 'The authorization request carries resource and an S256 challenge, and the form its CSRF value.',
    },
    'CRED-19': {
      source: 'RFC 9728, 5.1',
      text: 'The metadata address in a 401 comes first, with its scope.',
    },
    'CRED-20': {
      source: 'RFC 8414, 3.1; OpenID Connect Discovery 1.0, 4',
      text: 'Authorization server metadata is looked for at the RFC 8414 form, then at both OpenID forms.',
    },
    'CRED-21': {
      source: 'OWASP SSRF prevention',
      text: 'What a server names is not fetched from private space, however it is written.',
    },
    'CRED-22': {
      source: 'Documented surface: apikey in header or query; RFC 7617',
      text: 'An API key goes into a header or the query, a username and password into HTTP Basic.',
    },
    'CRED-23': {
      source: 'RFC 6749, 4.4 and 2.3.1',
      text: 'Client credentials make one token for all, renewed ahead and after a refusal.',
    },
    'CRED-24': {
      source: 'Documented surface: oidc-id-token',
      text: "An ID token of ours verifies from the issuer alone, and is never for another person, another issuer's or one with other claims.",
    },
    'CRED-25': {
      source: 'Documented surface: subject must be exactly one value',
      text: 'A subject that is not exactly one value is refused.',
    },
    'CRED-26': {
      source: 'Vault API, auth/jwt/login',
      text: 'HashiCorp Vault is signed in to by its JWT method.',
    },
    'CRED-27': {
      source: 'AWS STS, AssumeRoleWithWebIdentity',
      text: 'A role of AWS is taken for a token of ours.',
    },
    'CRED-28': {
      source: 'NIST SP 800-57: rotation of key-encrypting keys',
      text: 'The command seals everything under a new master key; the former one is refused.',
    },
    'CRED-29': {
      source: 'NIST SP 800-57',
      text: 'A rotation that was interrupted at any point is finished by the next run.',
    },
    'CRED-30': {
      source: 'RFC 6750, 3.1 insufficient_scope; MCP basic/authorization, Scope Challenge',
      text: 'Where a server demands more scope the union is asked for, once.',
    },
    'CRED-31': {
      source: 'MCP 2026-07-28 basic/authorization: credentials are keyed by issuer',
      text: 'A server that moves to another authorization server gets nothing of the former.',
    },
    'CRED-32': {
      source: 'MCP 2025-03-26 basic/authorization, Fallbacks',
      text: 'A server of 2025-03-26 that publishes nothing has its endpoints at the root.',
    },
    'CRED-33': {
      source: 'RFC 8693; RFC 7523; MCP enterprise-managed authorization',
      text: 'A sign-in at the company is exchanged for an identity assertion, and that for a token of the server, once for all who ask and for five minutes at most.',
    },
    'CRED-34': {
      source: 'MCP enterprise-managed authorization; RFC 8693, 2.1',
      text: 'Who has no sign-in that is kept is given a link to sign in, and the same call works afterwards.',
    },
    'CRED-35': {
      source: 'OpenID Connect Core, 12',
      text: 'An ID token that is over is renewed once for all servers; a sign-in that ended asks its owner.',
    },
    'CRED-36': {
      source: 'Documented surface: enterprise-managed access token; threat model of the identity room',
      text: 'Signing out deletes what the sign-in gave, and gateways are told.',
    },
    'CRED-37': {
      source: 'RFC 6749, 5.2; RFC 8693, 2.2.2',
      text: 'A no of the identity provider or of the authorization server is a clear reason.',
    },
    'CRED-38': {
      source: 'Documented surface: Discover of the enterprise-managed access token',
      text: 'Discovery and registration fail with the documented texts; addresses in private space are refused.',
    },
    'CRED-40': {
      source: 'RFC 6749, 4.4; documented surface: subjects of policies',
      text: 'An agent without a person calls tools behind a shared credential, where a policy names clients.',
    },
    'CRED-41': {
      source: 'Documented surface: per-user credentials; architecture, Credential',
      text: "An agent without a person gets nobody's own account and no link to connect one.",
    },
    'CRED-39': {
      source: 'RFC 6749, 6; ARCHITECTURE, Credential',
      text: 'Tokens in use are renewed in the background with jitter; one that ended is on the page and in the audit trail.',
    },
    'CRED-43': {
      source: 'RFC 7662, 2',
      text: 'A token that was revoked at the server is noticed before it is used, where an introspection endpoint is configured.',
    },
    'CRED-42': {
      source: 'MCP 2026-07-28 server/tools, listing',
      text: 'Tools that a server gives to everyone alike stay listed for who has no account there yet; others show one tool that says how to connect.',
    },
    'CRED-96': {
      source: 'RFC 6749, 6; RFC 9700, 4.14',
      text: 'Each access token is followed by exactly one refresh, near its end or after its refusal, however many processes ask.',
    },
    'CRED-97': {
      source: 'RFC 9700, 4.14.2',
      text: 'Who waited while a token was renewed does not use its refresh token again.',
    },
    'CRED-94': {
      source: 'Documented surface: oauth-authorization-code, authorized by an administrator',
      text: 'Administrators see shared accounts with who authorized them, end and last problem, and authorize and revoke them on a page.',
    },
    'CRED-98': {
      source: 'SPIFFE-ID 2; JWT-SVID 3; documented surface: jwt-svid-token',
      text: 'A JWT-SVID has a SPIFFE ID for its subject, or there is none.',
    },
    'CRED-99': {
      source: 'RFC 7519, 4.1.2: a subject is one of its issuer',
      text: 'A token of another issuer opens nothing that belongs to a person of ours, and says nothing that only we may say.',
    },
    'CRED-100': {
      source: 'RFC 6749, 5.2; RFC 7591',
      text: 'A refusal of one person’s refresh ends no other connection: a registration is given up for invalid_client alone, and then for new connections.',
    },
    'CRED-101': {
      source: 'RFC 6749, 6; threat model of the vault',
      text: 'A late answer about a former connection or sign-in changes nothing of the one that took its place.',
    },
    'CRED-102': {
      source: 'CWE-409, data amplification',
      text: 'Answers of others are bounded by what they decode to, not by what comes over the wire.',
    },
    'CRED-103': {
      source: 'Documented surface: OAuth addresses of the configuration; OpenID Connect Core, 3.1.3.7',
      text: 'Where the configuration names addresses and no issuer, an ID token that comes along decides nothing; where the issuer is known it is checked.',
    },
    'CRED-95': {
      source: 'Documented surface: dynamic claims',
      text: 'Expressions that nothing attests are refused when the configuration is read, with the reason.',
    },
  },
} as const satisfies Area
