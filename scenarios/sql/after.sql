-- What the runbook does last: dumps leave a materialized view as empty as it was.
refresh materialized view shop.forecast;
