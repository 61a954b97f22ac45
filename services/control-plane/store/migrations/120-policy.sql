-- Claims of the identity provider that rules may read, and where the browser was that a person signed in with.
ALTER TABLE account ADD COLUMN claims TEXT NOT NULL DEFAULT '{}';
ALTER TABLE authorization_grant ADD COLUMN browser_ip TEXT;
