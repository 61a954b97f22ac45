-- A person's own credential at one server. `sealed` holds the tokens, bound to the four columns of the key.
CREATE TABLE user_credential (
  issuer TEXT NOT NULL,
  subject TEXT NOT NULL,
  server_id TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  -- Rises with each change: a refresh that lost against a reconnect or a revocation changes nothing.
  version INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('connected', 'broken')),
  sealed BLOB NOT NULL,
  account TEXT,
  scopes TEXT NOT NULL,
  authorization_server TEXT NOT NULL,
  expires_at INTEGER,
  connected_at INTEGER NOT NULL,
  refreshed_at INTEGER NOT NULL,
  last_used_at INTEGER,
  last_error TEXT,
  PRIMARY KEY (issuer, subject, server_id, provider_id)
) STRICT, WITHOUT ROWID;

-- Clients that we registered (RFC 7591), by the authorization server that knows them.
CREATE TABLE oauth_client (
  provider_id TEXT NOT NULL,
  authorization_server TEXT NOT NULL,
  redirect_uri TEXT NOT NULL,
  sealed BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  PRIMARY KEY (provider_id, authorization_server, redirect_uri)
) STRICT, WITHOUT ROWID;

-- An authorization that is away at a server's authorization server. Single use.
CREATE TABLE connect_state (
  state TEXT PRIMARY KEY,
  sealed BLOB NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX connect_state_expiry ON connect_state (expires_at);

-- Connect links that were used, for as long as they would open again.
CREATE TABLE used_ticket (
  id TEXT PRIMARY KEY,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_ticket_expiry ON used_ticket (expires_at);
