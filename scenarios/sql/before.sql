-- What the runbook does first: the dump finds these there already.
create extension if not exists pg_trgm with schema public;
