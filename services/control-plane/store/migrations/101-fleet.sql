-- Agent controllers: made by an administrator, bound to one Ed25519 key when a device code is spent.
CREATE TABLE agent_controller (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  public_jwk TEXT,
  version TEXT,
  hostname TEXT,
  created_at INTEGER NOT NULL,
  registered_at INTEGER,
  uptime_secs INTEGER,
  last_health_at INTEGER
) STRICT;

-- `code_mac` is an HMAC under a sealed secret: a plain hash of six digits could be tried out from a copy of the file.
CREATE TABLE device_code (
  code_mac BLOB PRIMARY KEY,
  controller_id TEXT NOT NULL REFERENCES agent_controller (id) ON DELETE CASCADE,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX device_code_controller ON device_code (controller_id);

-- Client assertions that were accepted once, for as long as they would verify again.
CREATE TABLE used_assertion (
  digest TEXT PRIMARY KEY,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_assertion_expiry ON used_assertion (expires_at);

CREATE TABLE gateway (
  id TEXT PRIMARY KEY,
  controller_id TEXT NOT NULL REFERENCES agent_controller (id) ON DELETE CASCADE,
  url TEXT NOT NULL,
  hostname TEXT NOT NULL,
  version TEXT NOT NULL,
  enrolled_at INTEGER NOT NULL,
  renewed_at INTEGER NOT NULL
) STRICT;
CREATE INDEX gateway_controller ON gateway (controller_id);

-- Access tokens of controllers and gateways, by SHA-256.
CREATE TABLE machine_token (
  digest TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('controller', 'gateway')),
  owner_id TEXT NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX machine_token_owner ON machine_token (kind, owner_id);
CREATE INDEX machine_token_expiry ON machine_token (expires_at);

-- Keys that only gateways and we know: `snapshot` signs (ES256, JWK), `session` seals (32 bytes).
CREATE TABLE fleet_key (
  kid TEXT PRIMARY KEY,
  purpose TEXT NOT NULL CHECK (purpose IN ('snapshot', 'session')),
  sealed BLOB NOT NULL,
  public_jwk TEXT,
  created_at INTEGER NOT NULL
) STRICT;

-- The last snapshot's number and content digest, and the same of each policy in it.
CREATE TABLE snapshot_version (
  tenant_id TEXT PRIMARY KEY,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,
  issued_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE policy_version (
  policy_id TEXT PRIMARY KEY,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Access tokens issued at or before `at` (seconds) that match every field given are refused by gateways.
CREATE TABLE revocation (
  id TEXT PRIMARY KEY,
  at INTEGER NOT NULL,
  subject TEXT,
  client_id TEXT,
  jti TEXT
) STRICT;
CREATE INDEX revocation_at ON revocation (at);
