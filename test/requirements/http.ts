import type { Area } from './requirement.ts'

export const http = {
  title: 'HTTP, tokens and headers',
  rows: {
    'HTTP-01': {
      source: 'Seed reference: authenticates every request before any processing',
      text: 'A request without a good token gets 401 with the way in, and nothing is called.',
    },
    'HTTP-02': {
      source: 'RFC 9110, 5.3; RFC 6750, 2',
      text: 'Two Authorization headers are refused.',
    },
    'HTTP-03': {
      source: 'RFC 9110, 11.1; MCP 2025-11-25 basic/authorization, Token Requirements',
      text: 'The scheme is case-insensitive, and DELETE wants a token too.',
    },
    'HTTP-04': {
      source: 'RFC 7519, 4.1.4',
      text: 'A fresh token may be five seconds over for clocks that differ; a cached one may not.',
    },
    'HTTP-05': {
      source: 'RFC 7009',
      text: 'A revocation acts on a cached token.',
    },
    'HTTP-06': {
      source: 'RFC 7517, 5',
      text: 'Keys that leave the snapshot take cached tokens with them, those of requests whose body is still on its way among them.',
    },
    'HTTP-07': {
      source: 'Seed reference: centrally managed policies govern all access',
      text: 'Policy decides on the principal of the token.',
    },
    'HTTP-08': {
      source: 'Environment reference: AEMBIT_TRUSTED_ISSUER_DOMAINS',
      text: 'A trusted issuer elsewhere is believed within its domains alone.',
    },
    'HTTP-09': {
      source: 'MCP 2025-11-25 basic/transports; RFC 9110, 15.5',
      text: 'Each bad message is refused for itself alone, with the status and code that belong to it.',
    },
    'HTTP-10': {
      source: 'RFC 9110, 15.5.6 Allow; MCP 2026-07-28 basic/versioning',
      text: '405 tells the methods; a refused version tells the supported ones.',
    },
    'HTTP-11': {
      source: 'RFC 9110, 15.5.14',
      text: 'A body without a declared length is cut off at the limit.',
    },
    'HTTP-12': {
      source: 'RFC 9113, 8.1',
      text: 'A stream that is too large is stopped and its HTTP/2 connection lives.',
    },
    'HTTP-13': {
      source: 'RFC 9110, 10.1.1',
      text: 'Expect: 100-continue is answered when the body is wanted, after the token; such a request is waited for like any other.',
    },
    'HTTP-14': {
      source: 'RFC 9110, 15.5.9',
      text: 'A body that does not arrive in time ends the request.',
    },
    'HTTP-15': {
      source: 'RFC 9112, 9.3',
      text: 'A refusal keeps an HTTP/1.1 connection.',
    },
    'HTTP-16': {
      source: 'RFC 9110, 9.3.6',
      text: 'What is not HTTP, and CONNECT, are refused.',
    },
    'HTTP-17': {
      source: 'haproxy proxy-protocol.txt, 2',
      text: 'A connection without a PROXY header is closed.',
    },
    'HTTP-18': {
      source: 'Fetch standard, CORS protocol; MCP 2025-11-25 basic/transports, Security Warning',
      text: 'Browsers get CORS headers for allowed origins alone.',
    },
    'HTTP-19': {
      source: 'RFC 9110, 15.6.4',
      text: 'Over the limit of requests a client is told to come back.',
    },
    'HTTP-20': {
      source: 'RFC 9113, 5.4.1 and 9.1',
      text: 'A client that closes its HTTP/2 connection without a word leaves nothing behind.',
    },
    'HTTP-21': {
      source: 'RFC 8259, 4; ARCHITECTURE: policy and server read one value',
      text: 'Repeated keys, wrong UTF-8, depth and broken JSON are each named.',
    },
    'HTTP-22': {
      source: 'RFC 8259',
      text: 'The guard agrees with the JSON parser about every document.',
    },
    'HTTP-23': {
      source: 'Threat model of proxy: bounds',
      text: 'A document that is too deep is not read to its end.',
    },
    'HTTP-24': {
      source: 'RFC 9728, 3 and 5.1',
      text: 'Protected resource metadata stands at both well-known forms, for any page, without a token.',
    },
    'HTTP-25': {
      source: 'ARCHITECTURE: decide locally, deny by default',
      text: 'Without a snapshot, or with a stale one, the gateway refuses.',
    },
    'HTTP-26': {
      source: 'RFC 7515, 5.2',
      text: 'A snapshot that does not verify is refused and the old one kept.',
    },
    'HTTP-27': {
      source: 'RFC 9110, 7.6; ARCHITECTURE, the pass-through',
      text: "Other paths reach the control plane as the gateway's own, forwarding headers made anew.",
    },
    'HTTP-28': {
      source: 'ARCHITECTURE: two sockets at the control plane',
      text: 'The MCP path is never passed on.',
    },
    'HTTP-29': {
      source: 'RFC 9110, 7.8',
      text: 'Upgrades are refused, an offer of h2c is ignored.',
    },
    'HTTP-30': {
      source: 'ARCHITECTURE: losing any child never takes another down',
      text: 'A control plane that is down costs its own paths alone.',
    },
    'HTTP-31': {
      source: 'RFC 9113, 9.1',
      text: 'An HTTP/2 connection without streams ends by GOAWAY after the time that HTTP/1.1 has; one with streams stays.',
    },
  },
} as const satisfies Area
