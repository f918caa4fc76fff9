"""What is asked of Slurm, which may be slow or absent: no answer means unknown, never no."""
