-- Access authorization events: what was decided about a credential. `body` is the event as it is given out.
CREATE TABLE authorization_event (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  event_type TEXT NOT NULL,
  severity TEXT NOT NULL,
  user_id TEXT,
  server_id TEXT,
  body TEXT NOT NULL
) STRICT;
CREATE INDEX authorization_event_at ON authorization_event (at);
