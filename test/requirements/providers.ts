import type { Area } from './requirement.ts'

export const providers = {
  title: 'Sign-in at identity providers',
  rows: {
    'SAML-01': {
      source: 'saml-profiles-2.0, 4.1',
      text: 'A person signs in through a SAML 2.0 provider.',
    },
    'SAML-02': {
      source: 'saml-profiles-2.0, 4.1.3.5',
      text: 'An assertion counts only under a signature of the provider, on it or on its response.',
    },
    'SAML-03': {
      source: 'saml-bindings-2.0, 3.4.4.1; saml-metadata-2.0, 2.4.4',
      text: 'Requests are signed where the provider wants that, with the key of our metadata.',
    },
    'SAML-04': {
      source: 'saml-metadata-2.0, 2.4.1.1',
      text: 'Metadata by URL are read anew, so that a provider can change its key.',
    },
    'SAML-05': {
      source: 'docs/identity-providers.md',
      text: 'Subject, email and groups come from the NameID or from attributes, one value each; more groups than are kept is a refused sign-in.',
    },
    'SAML-06': {
      source: 'saml-profiles-2.0, 4.1.4.3; saml-core-2.0, 2.5.1',
      text: 'Every condition of an assertion is checked: audience, recipient, request, times, status.',
    },
    'SAML-07': {
      source: 'XML Signature Wrapping (USENIX Security 2012); OWASP SAML Security',
      text: 'Wrapped, forged, stripped and weak signatures get nobody in.',
    },
    'SAML-08': {
      source: 'OWASP XML External Entity Prevention',
      text: 'Document types, entities, comments and deep nesting are refused.',
    },
    'SAML-09': {
      source: 'saml-profiles-2.0, 4.1.4.5',
      text: 'A response counts once, for the browser and the request that it belongs to.',
    },
    'SAML-10': {
      source: 'docs/identity-providers.md',
      text: 'Dynamic claims of SAML resolve, and what does not resolve is denied.',
    },
    'SAML-11': {
      source: 'docs/identity-providers.md',
      text: 'A refused sign-in leaves its reason in audit log and authorization events, under the reference that the person sees.',
    },
    'IDP-01': {
      source: 'Microsoft identity platform: ID token claims, groups overage',
      text: 'Entra ID: people by object id, tenants by list, groups that do not fit into a token, no resource parameter.',
    },
    'IDP-02': {
      source: 'Google Identity: OpenID Connect, hd',
      text: 'Google: only people of the listed organizations, with proven addresses.',
    },
    'IDP-03': {
      source: 'Okta: org and custom authorization servers',
      text: 'Okta: both kinds of server, groups from userinfo.',
    },
    'IDP-04': {
      source: 'Auth0: namespaced claims; Keycloak: realm roles',
      text: 'Auth0 and Keycloak: groups are found where these put them.',
    },
    'IDP-05': {
      source: 'OpenID Connect Core 1.0, 9 and 10.1.1',
      text: 'The gateway proves itself by key or secret, and follows a change of keys of the provider.',
    },
    'IDP-06': {
      source: 'GitHub: authorizing OAuth apps',
      text: 'GitHub: people, proven addresses, organizations and teams from its API.',
    },
    'IDP-07': {
      source: 'docs/identity-providers.md',
      text: 'Of several providers the domain of an address, the client or the person chooses.',
    },
    'IDP-08': {
      source: 'seed reference, trust providers; RFC 7519 §4.1',
      text: 'Tokens that a trusted identity provider issued itself are accepted where issuer, key, audience and match rules fit, and their people get credentials by those claims alone.',
    },
    'IDP-09': {
      source: 'OpenID Connect Core 1.0, 5.7; Microsoft identity platform: optional claim xms_edov',
      text: 'An address that nobody proved is neither subject nor email, whatever claim names the person.',
    },
  },
} as const satisfies Area
