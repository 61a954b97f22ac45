-- The machine (`kid`) that vouched for a gateway: what is taken back with it.
ALTER TABLE machine_token ADD COLUMN machine TEXT;
