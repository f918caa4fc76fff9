"""Launch workers: plan, job scripts, local processes, and the record of a submission."""
