-- What a SAML identity provider posted, until the browser that the sign-in belongs to fetches the outcome.
ALTER TABLE idp_sign_in ADD COLUMN answer BLOB;

-- Assertions that were accepted, by digest, until they would be refused for their age: none counts twice.
CREATE TABLE saml_assertion (
  id TEXT PRIMARY KEY,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX saml_assertion_expiry ON saml_assertion (expires_at);
