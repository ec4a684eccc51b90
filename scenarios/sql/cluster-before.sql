-- What the runbook does first, in the database postgres.
comment on database postgres is 'restored by a drill';
