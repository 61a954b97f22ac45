-- Definitions of tools that gateways saw, by digest, and which of them are approved.
CREATE TABLE tool_pin (
  server_id TEXT NOT NULL,
  tool TEXT NOT NULL,
  digest TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('approved', 'pending')),
  first_seen_at INTEGER NOT NULL,
  decided_at INTEGER,
  PRIMARY KEY (server_id, tool, digest)
) STRICT;
CREATE INDEX tool_pin_state ON tool_pin (state, first_seen_at);
