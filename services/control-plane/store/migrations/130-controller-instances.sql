-- The machines behind a controller: one where it was made with a device code, any number under attestation. Each has
-- its own Ed25519 key, `kid` is the key's RFC 7638 thumbprint.
CREATE TABLE controller_instance (
  controller_id TEXT NOT NULL REFERENCES agent_controller (id) ON DELETE CASCADE,
  kid TEXT NOT NULL,
  public_jwk TEXT NOT NULL,
  subject TEXT,
  version TEXT NOT NULL,
  hostname TEXT NOT NULL,
  registered_at INTEGER NOT NULL,
  attested_at INTEGER,
  uptime_secs INTEGER,
  last_health_at INTEGER,
  connected INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (controller_id, kid)
) STRICT, WITHOUT ROWID;

INSERT INTO controller_instance
  (controller_id, kid, public_jwk, version, hostname, registered_at, uptime_secs, last_health_at)
SELECT id, json_extract(public_jwk, '$.kid'), public_jwk, coalesce(version, ''), coalesce(hostname, ''),
  coalesce(registered_at, created_at), uptime_secs, last_health_at
FROM agent_controller WHERE public_jwk IS NOT NULL;

ALTER TABLE agent_controller DROP COLUMN public_jwk;
ALTER TABLE agent_controller DROP COLUMN version;
ALTER TABLE agent_controller DROP COLUMN hostname;
ALTER TABLE agent_controller DROP COLUMN registered_at;
ALTER TABLE agent_controller DROP COLUMN uptime_secs;
ALTER TABLE agent_controller DROP COLUMN last_health_at;
-- Which trust provider vouches for it; null: device code.
ALTER TABLE agent_controller ADD COLUMN provider TEXT;

-- Evidence that can be shown twice belongs to the key that showed it first.
CREATE TABLE attestation_pin (
  digest TEXT PRIMARY KEY,
  controller_id TEXT NOT NULL,
  kid TEXT NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX attestation_pin_instance ON attestation_pin (controller_id, kid);
CREATE INDEX attestation_pin_expiry ON attestation_pin (expires_at);
