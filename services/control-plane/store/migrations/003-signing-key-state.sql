-- A successor that is published and does not sign yet: gateways and clients know it before its first token.
ALTER TABLE signing_key ADD COLUMN pending INTEGER NOT NULL DEFAULT 0 CHECK (pending IN (0, 1));
