import type { Area } from './requirement.ts'

export const identity = {
  title: 'Identity',
  rows: {
    'OAUTH-01': {
      source: 'RFC 6749, 4.1; RFC 9068',
      text: 'The code flow gives a token with the claims that the gateway decides on.',
    },
    'OAUTH-02': {
      source: 'RFC 7518, 3.1',
      text: 'ES256 where the configuration says so, with both keys published.',
    },
    'OAUTH-03': {
      source: 'RFC 8414, 3; OpenID Connect Discovery 1.0, 4',
      text: 'Both discovery documents say what there is, with the issuer as the only host.',
    },
    'OAUTH-04': {
      source: 'RFC 6749, 4.1.2.1; RFC 7636, 4.4.1',
      text: 'Authorization requests that must not pass do not.',
    },
    'OAUTH-05': {
      source: 'RFC 8707, 2',
      text: 'resource is compared without slash, case and default port, and filled in where absent.',
    },
    'OAUTH-06': {
      source: 'RFC 6749, 4.1.3; RFC 7636, 4.6',
      text: 'A code works once, for its client, with its verifier and redirect URI.',
    },
    'OAUTH-07': {
      source: 'RFC 8252, 7.3',
      text: 'Loopback redirect URIs match on any port.',
    },
    'OAUTH-08': {
      source: 'RFC 9700, 4.14.2',
      text: 'A refresh token that is used again after the grace window ends the grant.',
    },
    'OAUTH-09': {
      source: 'RFC 9700, 4.14.2',
      text: 'Parallel refreshes within the grace window all get the newest token of one chain.',
    },
    'OAUTH-10': {
      source: 'Documented surface: absolute lifetime is not extended',
      text: 'Rotation does not extend the absolute lifetime.',
    },
    'OAUTH-11': {
      source: 'RFC 7009, 2.1',
      text: 'Revocation ends the refresh token and its grant.',
    },
    'OAUTH-12': {
      source: 'RFC 9700, 4.14',
      text: 'What lies in the database is no token.',
    },
    'OAUTH-13': {
      source: 'RFC 7591, 2; RFC 8252, 7',
      text: "Redirect URIs are https, loopback http or an app's own scheme; nothing else registers.",
    },
    'OAUTH-14': {
      source: 'RFC 7591, 3.2',
      text: 'Registered metadata is refused, left out or given as the RFC says.',
    },
    'OAUTH-15': {
      source: 'RFC 7591, 5',
      text: 'Registrations are limited per address.',
    },
    'OAUTH-16': {
      source: 'RFC 6749, 2.3.1',
      text: 'A confidential client must show its secret.',
    },
    'OAUTH-17': {
      source: 'RFC 6749, 10.2',
      text: 'Pre-registered clients work with registration switched off.',
    },
    'OAUTH-18': {
      source: 'RFC 6749, 10.12',
      text: 'Forms without the right token, from elsewhere or of another browser are refused.',
    },
    'OAUTH-19': {
      source: 'OWASP Session Management, Session Fixation',
      text: 'A session gets a new id at sign-in; a planted one is worth nothing.',
    },
    'OAUTH-20': {
      source: 'RFC 6265bis, 4.1.3',
      text: 'Cookies over https are __Host- and __Secure- ones with their attributes.',
    },
    'OAUTH-21': {
      source: 'RFC 6749, 4.1.2.1',
      text: 'Denying and cancelling answer access_denied.',
    },
    'OAUTH-22': {
      source: 'MCP security best practices, Confused Deputy',
      text: 'Consent is remembered per client, person and redirect URI.',
    },
    'OAUTH-23': {
      source: 'OWASP Authentication, Account Lockout',
      text: 'Lockout grows per account and tells nothing about unknown people.',
    },
    'OAUTH-24': {
      source: 'OWASP Authentication',
      text: 'Guessing over many accounts is limited per address.',
    },
    'OAUTH-25': {
      source: 'OpenID Connect Core 1.0, 3.1.2',
      text: 'A person signs in through an OpenID provider.',
    },
    'OAUTH-26': {
      source: 'OpenID Connect Core 1.0, 3.1.2.1 state; RFC 6749, 10.12',
      text: 'state of another browser, used, unknown or missing is refused.',
    },
    'OAUTH-27': {
      source: 'RFC 9207, 2.4; OpenID Connect Core 1.0, 3.1.3.7',
      text: "A code of another sign-in and another issuer's answer are refused.",
    },
    'OAUTH-28': {
      source: 'RFC 7523, 3; Enterprise-Managed Authorization extension',
      text: 'An identity assertion becomes a token for that person and client, once; what it leaves out stays as the sign-in said.',
    },
    'OAUTH-29': {
      source: 'RFC 7523, 3',
      text: 'Assertions of another audience, client, type, issuer or age are refused.',
    },
    'OAUTH-30': {
      source: 'OAuth Client ID Metadata Document draft, 4',
      text: 'A client that is a URL signs a person in and is named with its host.',
    },
    'OAUTH-31': {
      source: 'OAuth Client ID Metadata Document draft, 6; documented surface: registered URLs',
      text: 'Only client documents that an administrator let in are fetched.',
    },
    'OAUTH-32': {
      source: 'OAuth Client ID Metadata Document draft, 4.1',
      text: 'A document that does not fit its address or its rules is refused.',
    },
    'OAUTH-33': {
      source: 'OAuth Client ID Metadata Document draft, 6.5 (SSRF)',
      text: 'Private and special addresses are never asked for a document.',
    },
    'OAUTH-34': {
      source: 'RFC 7662, 2',
      text: 'Introspection tells of access and refresh tokens to those who may know.',
    },
    'OAUTH-35': {
      source: 'RFC 7662, 2.2 active',
      text: 'A token that expired, was revoked or lost its policy is not active.',
    },
    'OAUTH-36': {
      source: 'RFC 7009, 2.1',
      text: 'Revoking an access token tells the gateways and ends its grant, also while policy or the kill switch denies it.',
    },
    'OAUTH-37': {
      source: 'RFC 7517; NIST SP 800-57, key rotation',
      text: 'A new signing key is published before it signs and forgotten after it counts.',
    },
    'OAUTH-38': {
      source: 'NIST SP 800-57, 5.5',
      text: 'A compromised key is replaced at once and nothing it signed is taken any more.',
    },
    'OAUTH-39': {
      source: 'RFC 7523, 2.2; OpenID Connect Core 1.0, 9',
      text: 'A client proves itself by private_key_jwt where a policy names clients.',
    },
    'OAUTH-40': {
      source: 'RFC 6749, 4.4',
      text: 'Client credentials are denied without a policy for clients.',
    },
    'OAUTH-41': {
      source: 'Documented surface: enforceSso off',
      text: "Where sign-in is not enforced the token is the client's alone.",
    },
    'OAUTH-42': {
      source: 'RFC 9700, 4.11; CWE-601',
      text: 'Who signs in for a page of ours comes back to that page, and to no other site.',
    },
    'OAUTH-43': {
      source: 'RFC 7009, 2.2.1 and 5',
      text: 'Revocations by clients are limited, and however many there are push out none of a person or a client.',
    },
    'AUDIT-01': {
      source: 'Documented surface: failure matrix, access.authorization',
      text: 'Every refused sign-in leaves its reason in log, audit log and authorization events.',
    },
    'AUDIT-02': {
      source: 'Documented surface: failure matrix; audit log',
      text: 'Refused requests, consents, tokens and registrations leave their reason.',
    },
    'AUDIT-03': {
      source: 'OWASP Logging, Denial of service',
      text: 'What strangers are refused or give up, and what people do, does not push out what administrators did.',
    },
    'TRUST-01': {
      source:
        'Documented surface: OIDC attestation by discovery URL, symmetric key, JWKS or public key; RFC 7518, 3.2',
      text: 'Attestation takes keys by discovery, JWKS, public key or a shared secret that stays in the control plane.',
    },
    'TRUST-02': {
      source: 'Documented surface: symmetric key; RFC 7518, 8.1',
      text: 'No gateway gets a shared secret that tokens are signed with: such a trust provider is refused in words.',
    },
    'TRUST-03': {
      source: 'RFC 7517, 4.5',
      text: 'A public key without a key id verifies the tokens of its issuer, whatever id they name.',
    },
    'LOGOUT-01': {
      source: 'OpenID Connect Back-Channel Logout 1.0, 2.5 and 2.6',
      text: 'Signing out at the identity provider ends the person’s browser sessions, and agents where configured.',
    },
    'LOGOUT-02': {
      source: 'OpenID Connect Back-Channel Logout 1.0, 2.6; 4',
      text: 'Logout tokens that are forged, used, for somebody else or no logout tokens end nothing.',
    },
    'LOGOUT-03': {
      source: 'OpenID Connect RP-Initiated Logout 1.0, 2',
      text: 'Whoever signs out is shown where to sign out at the identity provider too.',
    },
    'LOGOUT-04': {
      source: 'saml-profiles-2.0, 4.4; saml-bindings-2.0, 3.4.4.1',
      text: 'A signed SAML logout request ends the person’s sessions and is answered; any other ends nothing.',
    },
    'LOGOUT-05': {
      source: 'OpenID Connect Back-Channel Logout 1.0, 4 (denial of service)',
      text: 'However many logout requests anybody brings, the identity provider is asked for its keys twice a minute at most.',
    },
    'CLIENT-01': {
      source: 'Documented surface: client identity type oauthScope',
      text: 'A client workload is told apart by a scope that its agents ask for.',
    },
    'CLIENT-02': {
      source: 'Documented surface: client identity types',
      text: 'Scope, claims of a token and client id tell clients apart; what says most wins.',
    },
  },
} as const satisfies Area
