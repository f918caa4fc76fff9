"""The status of a sweep, from its files and one call of squeue."""
