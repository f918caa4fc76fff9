"""Slurm's commands. Slurm may be slow or absent: no answer means unknown, never no."""
