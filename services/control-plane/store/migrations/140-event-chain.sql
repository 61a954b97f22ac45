-- Events of one gateway process form a chain (shared/wire/event-chain.ts).
ALTER TABLE workload_event ADD COLUMN chain_id TEXT;
ALTER TABLE workload_event ADD COLUMN chain_seq INTEGER;
CREATE INDEX workload_event_chain ON workload_event (gateway_id, chain_id, chain_seq) WHERE chain_id IS NOT NULL;

-- Up to which number retention has deleted events of a chain.
CREATE TABLE swept_event_chain (
  gateway_id TEXT NOT NULL,
  chain_id TEXT NOT NULL,
  through INTEGER NOT NULL,
  PRIMARY KEY (gateway_id, chain_id)
) STRICT, WITHOUT ROWID;
