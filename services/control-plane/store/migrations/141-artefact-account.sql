-- Signing a person out ends all of their sessions.
CREATE INDEX oidc_artefact_account ON oidc_artefact (account_id, model) WHERE account_id IS NOT NULL;
