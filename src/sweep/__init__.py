"""Sweeps: grids, the set files that they are written to, and working through those."""
