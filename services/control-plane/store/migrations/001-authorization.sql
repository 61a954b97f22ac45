-- What oidc-provider persists: one row per artefact (session, grant, code, refresh token, client ...).
-- `payload` is sealed JSON where it holds something usable, see authorization/adapter.ts.
CREATE TABLE oidc_artefact (
  model TEXT NOT NULL,
  id TEXT NOT NULL,
  payload TEXT NOT NULL,
  grant_id TEXT,
  uid TEXT,
  user_code TEXT,
  account_id TEXT,
  client_id TEXT,
  consumed_at INTEGER,
  expires_at INTEGER,
  PRIMARY KEY (model, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX oidc_artefact_grant ON oidc_artefact (grant_id) WHERE grant_id IS NOT NULL;
CREATE UNIQUE INDEX oidc_artefact_uid ON oidc_artefact (model, uid) WHERE uid IS NOT NULL;
CREATE INDEX oidc_artefact_expiry ON oidc_artefact (expires_at) WHERE expires_at IS NOT NULL;

-- Signing keys of the authorization server. The private JWK is sealed under the master key.
CREATE TABLE signing_key (
  kid TEXT PRIMARY KEY,
  algorithm TEXT NOT NULL,
  sealed_jwk BLOB NOT NULL,
  public_jwk TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  -- The newest active key of an algorithm signs; retired ones are only published until their tokens are gone.
  retired_at INTEGER
) STRICT;

-- Secrets of the process itself (cookie keys), sealed under the master key.
CREATE TABLE server_secret (
  name TEXT PRIMARY KEY,
  sealed BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
