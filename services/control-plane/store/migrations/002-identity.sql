-- Everyone who signed in. `subject` is the `sub` of our tokens and belongs to one identity provider at a time.
CREATE TABLE account (
  subject TEXT PRIMARY KEY,
  idp TEXT NOT NULL,
  idp_subject TEXT NOT NULL,
  email TEXT,
  name TEXT,
  groups TEXT NOT NULL,
  first_seen_at INTEGER NOT NULL,
  last_sign_in_at INTEGER NOT NULL
) STRICT;
CREATE INDEX account_idp ON account (idp, idp_subject);

-- The embedded directory: replaced by what the configuration says at each apply.
CREATE TABLE directory_user (
  idp TEXT NOT NULL,
  email TEXT NOT NULL,
  name TEXT,
  groups TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  PRIMARY KEY (idp, email)
) STRICT, WITHOUT ROWID;

-- Failed sign-ins by account and by address; a success deletes the account's row.
CREATE TABLE sign_in_failure (
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  failures INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  blocked_until INTEGER NOT NULL,
  PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_failure_last ON sign_in_failure (last_at);

-- A sign-in that is away at an external identity provider. Single use, ten minutes, bound to the browser.
CREATE TABLE idp_sign_in (
  state TEXT PRIMARY KEY,
  idp TEXT NOT NULL,
  browser TEXT NOT NULL,
  sealed BLOB NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idp_sign_in_expiry ON idp_sign_in (expires_at);
