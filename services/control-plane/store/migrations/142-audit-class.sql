-- Who an entry is of, each kept within a bound of its own: what an administrator did, what a stranger may have caused, the rest.
ALTER TABLE audit_log ADD COLUMN class TEXT NOT NULL DEFAULT 'other';
UPDATE audit_log SET class = 'administrator' WHERE json_extract(body, '$.actor.type') = 'Administrator';
UPDATE audit_log SET class = 'stranger'
  WHERE class = 'other' AND severity = 'Warn' AND category IN ('Authentication', 'Agents', 'AgentControllers');
CREATE INDEX audit_log_class ON audit_log (class, seq);
