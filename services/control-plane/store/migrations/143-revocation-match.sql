-- The same revoked again is the same entry.
CREATE INDEX revocation_match ON revocation (subject, client_id, jti, grant_ref);
