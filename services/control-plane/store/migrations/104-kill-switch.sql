-- Whom and what an administrator shut out. Acts until it is taken back.
CREATE TABLE kill_switch (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('user', 'client', 'server', 'token')),
  value TEXT NOT NULL,
  reason TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  reverted_at INTEGER
) STRICT;
CREATE UNIQUE INDEX kill_switch_active ON kill_switch (kind, value) WHERE reverted_at IS NULL;

-- All access tokens of one authorization (claim `grant`).
ALTER TABLE revocation ADD COLUMN grant_ref TEXT;

-- What administrators and the service itself did, in the shape of an audit log.
CREATE TABLE audit_log (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  at INTEGER NOT NULL,
  category TEXT NOT NULL,
  severity TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE INDEX audit_log_at ON audit_log (at);
