-- Everyone who signed in, by (identity provider, its subject): what a token's claims are made from.
CREATE TABLE account (
  id TEXT PRIMARY KEY,
  idp TEXT NOT NULL,
  idp_subject TEXT NOT NULL,
  subject TEXT NOT NULL,
  email TEXT,
  name TEXT,
  groups TEXT NOT NULL,
  first_seen_at INTEGER NOT NULL,
  last_sign_in_at INTEGER NOT NULL,
  UNIQUE (idp, idp_subject)
) STRICT;

-- The embedded directory: replaced by what the configuration says at each apply.
CREATE TABLE directory_user (
  idp TEXT NOT NULL,
  email TEXT NOT NULL,
  name TEXT,
  groups TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  PRIMARY KEY (idp, email)
) STRICT, WITHOUT ROWID;

-- Failed sign-ins, by account and by address (`what` says which); a success deletes the account's row.
CREATE TABLE sign_in_failure (
  what TEXT NOT NULL,
  key TEXT NOT NULL,
  failures INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  blocked_until INTEGER NOT NULL,
  PRIMARY KEY (what, key)
) STRICT, WITHOUT ROWID;
