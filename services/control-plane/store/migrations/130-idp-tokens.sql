-- What a person's sign-in at their identity provider gave, for credentials that are asked there in their name.
CREATE TABLE idp_token (
  idp TEXT NOT NULL,
  subject TEXT NOT NULL,
  -- Rises with each change: a renewal that lost against a new sign-in or a sign-out changes nothing.
  version INTEGER NOT NULL,
  sealed BLOB NOT NULL,
  signed_in_at INTEGER NOT NULL,
  PRIMARY KEY (idp, subject)
) STRICT, WITHOUT ROWID;
