-- Tokens that end soon are looked for every few seconds.
CREATE INDEX user_credential_expiry ON user_credential (expires_at) WHERE state = 'connected';
-- Who authorized an account that everyone shares.
ALTER TABLE user_credential ADD COLUMN connected_by TEXT;
