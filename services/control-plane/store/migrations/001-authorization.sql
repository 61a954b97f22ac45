-- What oidc-provider persists: one row per artefact (session, grant, code, refresh token, client ...).
-- `id` and `uid` are SHA-256 of the real ones and `sealed` is under the master key: a copy of the file is no token.
CREATE TABLE oidc_artefact (
  model TEXT NOT NULL,
  id TEXT NOT NULL,
  sealed BLOB NOT NULL,
  uid TEXT,
  grant_id TEXT,
  account_id TEXT,
  client_id TEXT,
  consumed_at INTEGER,
  -- Refresh tokens: what this one was exchanged for (sealed), answered again within the grace window.
  successor BLOB,
  -- Milliseconds since the epoch; null never expires.
  expires_at INTEGER,
  PRIMARY KEY (model, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX oidc_artefact_grant ON oidc_artefact (grant_id, model) WHERE grant_id IS NOT NULL;
CREATE UNIQUE INDEX oidc_artefact_uid ON oidc_artefact (model, uid) WHERE uid IS NOT NULL;
CREATE INDEX oidc_artefact_expiry ON oidc_artefact (expires_at) WHERE expires_at IS NOT NULL;

-- One row per authorization that a person gave: where its code went, so that a refresh is decided on the same facts.
CREATE TABLE authorization_grant (
  grant_id TEXT PRIMARY KEY,
  subject TEXT NOT NULL,
  client_id TEXT NOT NULL,
  redirect_uri TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX authorization_grant_subject ON authorization_grant (subject, client_id);
CREATE INDEX authorization_grant_expiry ON authorization_grant (expires_at);

-- What a person agreed to, per client and per place its codes go to (loopback ports left out).
CREATE TABLE consent (
  subject TEXT NOT NULL,
  client_id TEXT NOT NULL,
  redirect TEXT NOT NULL,
  resource TEXT NOT NULL,
  scopes TEXT NOT NULL,
  granted_at INTEGER NOT NULL,
  PRIMARY KEY (subject, client_id, redirect, resource)
) STRICT, WITHOUT ROWID;

-- Signing keys of the authorization server. The newest unretired key of an algorithm signs; retired ones are
-- published until the tokens they signed are gone.
CREATE TABLE signing_key (
  kid TEXT PRIMARY KEY,
  algorithm TEXT NOT NULL,
  sealed_jwk BLOB NOT NULL,
  public_jwk TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  retired_at INTEGER
) STRICT;

-- Secrets of the process itself, sealed under the master key.
CREATE TABLE server_secret (
  name TEXT PRIMARY KEY,
  sealed BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
