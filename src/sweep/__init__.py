"""Sweeps: grids, set files, submission, status and pruning."""
