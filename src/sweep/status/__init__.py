"""Where a sweep stands, from its files and one question to Slurm."""
