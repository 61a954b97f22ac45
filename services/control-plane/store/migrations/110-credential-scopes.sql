-- What was asked for when the connection was made: a server that demands more than was granted leads to one more
-- question to the person, never to the same one again.
ALTER TABLE user_credential ADD COLUMN requested_scopes TEXT NOT NULL DEFAULT '';
