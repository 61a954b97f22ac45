import type { Area } from './requirement.ts'

export const gateway = {
  title: 'The appliance',
  rows: {
    'GW-START-01': {
      source: 'Seed reference: environment variables',
      text: 'The documented variables have the documented defaults.',
    },
    'GW-START-02': {
      source: 'House rule: every problem at once',
      text: 'Wrong settings are all told at once, with exit code 2.',
    },
    'GW-START-03': {
      source: 'Documented surface: AEMBIT_MCP_GATEWAY_TIMEOUT',
      text: 'Zero, repeated and malformed time-outs are refused by name.',
    },
    'GW-START-04': {
      source: 'Documented surface: start checks',
      text: 'Certificate and key are checked before anything listens.',
    },
    'GW-START-05': {
      source: 'ARCHITECTURE: the supervisor binds',
      text: 'A taken port is one line with the address and its setting.',
    },
    'GW-START-06': {
      source: 'sd_listen_fds(3)',
      text: 'Sockets from systemd are used and survive the front.',
    },
    'GW-START-07': {
      source: 'Seed reference: systemd service',
      text: 'systemd hears READY, RELOADING, STOPPING, STATUS and WATCHDOG in order.',
    },
    'GW-START-08': {
      source: 'ARCHITECTURE: children get no variable',
      text: 'Starts, serves, says ready and stops without a trace.',
    },
    'GW-START-09': {
      source: 'docs/operators.md, Settings',
      text: 'A session store that is away at the start is waited for; one that says no ends the start with exit code 2.',
    },
    'GW-START-10': {
      source: 'docs/operators.md, Certificates',
      text: 'A gateway that starts with PEM files that have ended serves, is not ready and says why; --check refuses them.',
    },
    'GW-RESTART-01': {
      source: 'ARCHITECTURE, Replace a child',
      text: 'A process that is killed is replaced at once, and the next request works.',
    },
    'GW-RESTART-02': {
      source: 'ARCHITECTURE, Replace a child',
      text: 'A process that stands still or breaks the contract is replaced.',
    },
    'GW-RESTART-03': {
      source: 'ARCHITECTURE, Replace a child',
      text: 'A crash loop turns readiness off and says why.',
    },
    'GW-RESTART-04': {
      source: 'ARCHITECTURE, Replace a child',
      text: 'A rolling restart fails no request.',
    },
    'GW-RESTART-05': {
      source: 'ARCHITECTURE, Replace a child',
      text: 'A successor that does not become ready leaves the predecessor in place.',
    },
    'GW-RESTART-06': {
      source: 'ARCHITECTURE, Replace a child',
      text: 'A draining proxy finishes what runs and takes nobody new.',
    },
    'GW-RESTART-07': {
      source: 'Issue 5: kill -9, service is back in under 1 s',
      text: 'A loaded spare takes the place of a process that dies; spares count as nothing else.',
    },
    'GW-RESTART-08': {
      source: 'Issue 5: kill -9, only requests in flight in that very process fail',
      text: 'Without its supervisor the gateway serves on until the next one does; without systemd it ends.',
    },
    'GW-RESTART-09': {
      source: 'Issue 5: kill -9, each with a clear error',
      text: 'A client that waits for an answer from a killed process is told so, and nothing is put into an answer that began.',
    },
    'GW-RELOAD-01': {
      source: "Operators' guide, reload",
      text: 'A reload swaps the certificate under open connections and refuses a bad one.',
    },
    'GW-RELOAD-02': {
      source: "Operators' guide, reload",
      text: 'Where a successor fails, everything goes back to the running settings.',
    },
    'GW-INSTALL-01': {
      source: 'docs/install.md, Upgrade, and back',
      text: 'Installing again leaves a controller that knows how to register as it is, and what fails puts every file back.',
    },
    'GW-RELOAD-03': {
      source: 'ARCHITECTURE, Message order',
      text: 'A process applies configurations one after the other, also those that come while it starts.',
    },
    'GW-INSTALL-02': {
      source: 'docs/install.md, Change a setting',
      text: 'What is given takes back the kept settings that it excludes: files in place of ACME, and ACME in place of files.',
    },
    'GW-ACME-01': {
      source: 'services/front/acme, Two fronts at once',
      text: 'An order that was given up, a dead process or a full disk leaves nothing that stands in the way of the next order.',
    },
    'GW-TLS-01': {
      source: 'RFC 9325, 3.1.1 and 3.4',
      text: 'Old TLS, foreign ALPN and noise are refused, and the front lives on.',
    },
    'GW-TLS-02': {
      source: 'RFC 7301',
      text: 'What TLS agreed on reaches the proxy.',
    },
    'GW-TLS-03': {
      source: 'RFC 9110, 15.4.9',
      text: 'Port 80 redirects and relays nothing.',
    },
    'GW-TLS-04': {
      source: 'ARCHITECTURE, Replace a child',
      text: 'Without a proxy the client waits, and its bytes arrive once there is one.',
    },
    'GW-TLS-05': {
      source: 'ARCHITECTURE, front to proxy',
      text: 'Large bodies go both ways at the pace of the slower side.',
    },
    'GW-CERT-01': {
      source: 'docs/operators.md, Certificates',
      text: 'PEM files are watched: half-written, mismatched, ended or unreadable ones are refused while the pair before is served.',
    },
    'GW-CERT-02': {
      source: 'docs/operators.md, Certificates',
      text: 'A front that starts with a certificate that has ended serves it, fails its check, and takes its successor.',
    },
    'GW-CERT-04': {
      source: 'RFC 6960, 4.2.2.1',
      text: 'A stapled OCSP answer is renewed at half of its life, at least once a day, and a long life makes no storm of requests.',
    },
    'GW-CERT-03': {
      source: 'docs/install.md, Change a setting',
      text: 'An installed gateway is brought a renewed certificate also where a symlink is replaced, and nothing where nothing changed.',
    },
    'GW-TLS-06': {
      source: 'haproxy proxy-protocol.txt, 2.2',
      text: 'The PROXY header has the bytes of its specification.',
    },
    'GW-TLS-07': {
      source: 'haproxy proxy-protocol.txt, 2.2',
      text: 'What is no PROXY header is refused.',
    },
    'GW-TLS-08': {
      source: 'RFC 9112, 9.6; Threat model of front: a connection that says nothing',
      text: 'A client that never closes its side after a goodbye is left within seconds, on both ports.',
    },
    'SYNC-01': {
      source: 'ARCHITECTURE, Snapshot',
      text: 'A verified snapshot becomes a pointer to a private file, and a change follows.',
    },
    'SYNC-02': {
      source: 'RFC 9110, 8.8.3',
      text: 'An unchanged snapshot is confirmed by its ETag, not fetched.',
    },
    'SYNC-03': {
      source: 'RFC 7515, 5.2',
      text: 'What is not signed by the pinned key is refused and the old one stays.',
    },
    'SYNC-04': {
      source: 'ARCHITECTURE, Snapshot: refuses a rollback',
      text: 'An older version is refused, also after a restart.',
    },
    'SYNC-05': {
      source: 'Documented surface: keeps serving while the cloud is down',
      text: 'With the control plane away the last good snapshot is served and not confirmed.',
    },
    'SYNC-06': {
      source: 'ARCHITECTURE, Event',
      text: 'Sealed segments are shipped once, in order, in bounded batches, and deleted.',
    },
    'SYNC-07': {
      source: 'ARCHITECTURE, Event: at least once',
      text: 'With the control plane down and up again everything arrives, in order.',
    },
    'SYNC-08': {
      source: 'ARCHITECTURE, Event',
      text: 'A full spool gives up its oldest, loudly and counted.',
    },
    'SYNC-09': {
      source: 'ARCHITECTURE, Snapshot: sync enrols at the agent controller',
      text: 'After a suspend or a step of the clock a token that has ended is renewed at once.',
    },
    'SYNC-10': {
      source: 'ARCHITECTURE, Restart the unit',
      text: 'A control plane that does not answer holds up neither the end of sync nor its last pass over the spool.',
    },
    'EVENT-01': {
      source: 'Documented surface: workload events, fields and volume',
      text: 'A call leaves a request and a response event with the documented fields.',
    },
    'EVENT-02': {
      source: 'Documented surface: redacted headers',
      text: "Of a client's headers every name is told and values of harmless ones alone.",
    },
    'EVENT-03': {
      source: 'Threat model of proxy: bounds',
      text: 'Strangers can not flood the trail.',
    },
    'EVENT-04': {
      source: 'ARCHITECTURE, Event',
      text: 'A disk that does not take it costs events, not requests.',
    },
    'EVENT-05': {
      source: 'ARCHITECTURE, Event: each eventId once',
      text: 'A batch that comes twice is stored once.',
    },
    'AC-01': {
      source: 'Documented surface: device code, six digits, one use',
      text: 'A device code registers once; the next start uses key and registration again.',
    },
    'AC-02': {
      source: 'Documented surface: GET /health, RegisteredAndNotConnected',
      text: 'With the control plane away the state says so, and heals by itself.',
    },
    'AC-03': {
      source: 'Documented surface: device code, 15 minutes',
      text: 'A device code ends after 15 minutes.',
    },
    'AC-04': {
      source: 'OWASP Credential Stuffing Prevention',
      text: 'Guessing device codes is limited, also for the right one.',
    },
    'AC-05': {
      source: 'Documented surface: agent controller metrics',
      text: 'Its metrics carry the documented names and labels.',
    },
    'AC-06': {
      source: 'Fetch standard; DNS rebinding',
      text: 'A web page can not reach it: foreign Host, any Origin, a simple content type.',
    },
    'AC-07': {
      source: 'RFC 7523, 3',
      text: 'Assertions that are wrong or replayed are refused.',
    },
    'AC-ATTEST-01': {
      source: 'EC2 User Guide: instance identity documents',
      text: 'An EC2 instance identity document registers its instance: signature of a configured certificate, rules, one key.',
    },
    'AC-ATTEST-02': {
      source: 'STS API: GetCallerIdentity; Signature Version 4',
      text: 'A GetCallerIdentity signed for the challenge registers a role; the control plane sends it to STS itself.',
    },
    'AC-ATTEST-03': {
      source: 'Azure Instance Metadata Service: attested data',
      text: 'An Azure attested document registers its machine: our nonce, its age, a signer of Azure under a configured root.',
    },
    'AC-ATTEST-04': {
      source: 'Compute Engine: verifying the identity of instances',
      text: 'A Google identity token is made for the challenge, and matched by project, instance and e-mail.',
    },
    'AC-ATTEST-05': {
      source: 'RFC 5280, 6; RFC 7515, 4.1.6',
      text: 'A machine with a key and a certificate of a configured authority registers by signing the challenge.',
    },
    'AC-ATTEST-06': {
      source: 'OpenID Connect Core 1.0, 3.1.3.7',
      text: 'A token of an OpenID issuer registers the machine that shows it first: signature, issuer, audience, age, rules.',
    },
    'AC-ATTEST-07': {
      source: 'House rule: replay',
      text: 'A challenge is for one controller, one key, one use and two minutes; rules that change take tokens back.',
    },
    'AC-ATTEST-08': {
      source: 'Documented surface: several instances may share an ID only with Trust Provider registration',
      text: 'Machines share an id under attestation alone; a device-code controller has one machine.',
    },
    'AC-FLEET-01': {
      source: 'House rule: what is taken back is taken back whole',
      text: 'A machine that is forgotten, or replaced by a new device code, takes the tokens and streams of its gateways with it.',
    },
    'AC-FLEET-02': {
      source: 'House rule: no one request or write ends a process',
      text: 'A look at silent controllers that fails is logged and ends nothing.',
    },
    'AC-ATTEST-09': {
      source: 'House rule: every problem at once',
      text: 'Trust providers that would admit anybody, and what is malformed in them, are told with their place in the file.',
    },
    'AC-ATTEST-10': {
      source: 'Documented surface: attestation document from cloud metadata',
      text: 'A controller finds by itself what its machine can show, becomes healthy and enrols gateways; why it is refused it does not hear.',
    },
    'AC-TLS-01': {
      source: 'Documented surface: 5443 HTTPS and 5000 closed, metrics 9091 HTTPS',
      text: 'With a certificate the controller serves HTTPS alone, metrics too, and a renewed certificate without a restart.',
    },
    'AC-PROXY-01': {
      source: 'Documented surface: HTTP(S)_PROXY/NO_PROXY by drop-in',
      text: 'What the controller says to the control plane goes through the forward proxy that HTTPS_PROXY names.',
    },
    'AC-HEALTH-01': {
      source: 'Documented surface: UI disconnected after 90 s without',
      text: 'A machine that is silent for 90 seconds is shown as disconnected, once, and its return too.',
    },
    'POLICY-01': {
      source: 'Seed reference: deny by default',
      text: 'A gateway-to-server decision is by policy, deny by default.',
    },
    'POLICY-02': {
      source: 'Documented surface: client-to-gateway policy',
      text: 'A client-to-gateway decision is by policy, deny by default.',
    },
    'NET-01': {
      source: 'OWASP SSRF prevention; IANA special-purpose registries',
      text: 'The address guard refuses private and special space in every form.',
    },
    'NET-02': {
      source: 'OWASP SSRF prevention, DNS rebinding',
      text: 'The lookup refuses at connect time.',
    },
    'EVENT-06': {
      source: 'Documented surface: access.credential',
      text: 'access.credential says who asked, by which policy and provider, and what came of it.',
    },
    'EVENT-08': {
      source: 'Architecture: gateway events are hash-chained with sequence numbers',
      text: 'Each event holds its number and the digest of the one before, over the bytes that are stored.',
    },
    'EVENT-09': {
      source: 'Architecture: audit verify proves nothing was cut',
      text: 'audit verify finds events that were cut out, changed, reordered or cut off at the end, and takes retention for none of these.',
    },
    'EVENT-10': {
      source: 'Documented surface: authorizationChain',
      text: 'An event names the access events by which it was allowed: that of the token, and on the way to a server that of the credential too.',
    },
    'EVENT-07': {
      source: 'Documented surface: workload-events list',
      text: 'Workload events come in the documented list shape.',
    },
    'KILL-01': {
      source: 'Architecture: revocations act within a second',
      text: 'The kill switch is set, listed, taken back, audited, and in the snapshot while it acts.',
    },
    'KILL-02': {
      source: 'Architecture: revocations act within a second',
      text: 'Shutting out a server ends its calls and takes its tools from every listing, for everyone.',
    },
    'AC-08': {
      source: 'systemd.service(5): SIGTERM; documented surface: port 5000',
      text: 'It registers, serves on loopback and stops on SIGTERM with exit code 0.',
    },
    'CP-01': {
      source: 'House rule: every problem at once',
      text: 'What the control plane can not start with is told whole, with exit code 2.',
    },
    'CP-02': {
      source: 'House rule: secrets are private files',
      text: 'A master key that is none, or that others may read, stops the start.',
    },
    'CP-03': {
      source: 'Admin API: its token',
      text: 'The token of the admin API is made once, private, and needed everywhere but for health.',
    },
    'GW-INPUT-01': {
      source: 'Seed reference: unauthenticated requests receive 401',
      text: 'Through the whole appliance, tokens that are none get 401 with the way in and reach no server.',
    },
    'GW-INPUT-02': {
      source: 'RFC 9110, 15.5.14',
      text: 'A body of 50 MB is refused before it is read to its end.',
    },
    'PIN-01': {
      source: 'Tool poisoning: definitions change after approval',
      text: 'The first definition that any gateway sees is approved for all; another one waits.',
    },
    'PIN-02': {
      source: 'Tool poisoning: definitions change after approval',
      text: 'An administrator approves a changed definition and takes it back, and the trail says so.',
    },
  },
} as const satisfies Area
