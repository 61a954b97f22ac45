-- The audit trail. The columns are what is asked for by name, `body` is the event as it came.
CREATE TABLE workload_event (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id TEXT NOT NULL UNIQUE,
  at INTEGER NOT NULL,
  event_type TEXT NOT NULL,
  severity TEXT NOT NULL,
  connection_id TEXT NOT NULL,
  user_id TEXT,
  server_id TEXT,
  tool TEXT,
  client_id TEXT,
  gateway_id TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE INDEX workload_event_at ON workload_event (at);
CREATE INDEX workload_event_user ON workload_event (user_id, at) WHERE user_id IS NOT NULL;
CREATE INDEX workload_event_server ON workload_event (server_id, at) WHERE server_id IS NOT NULL;
CREATE INDEX workload_event_tool ON workload_event (tool, at) WHERE tool IS NOT NULL;
CREATE INDEX workload_event_client ON workload_event (client_id, at) WHERE client_id IS NOT NULL;
