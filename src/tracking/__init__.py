"""Runs as wandb shows them: a mirror of the run folders, which hold everything without it.

Training tells a process of its own that a run folder has something new (process). That process
(`python -m src.tracking`) reads the folder and tells wandb (wandb_run). wandb may be slow, hang or
fail there; training neither imports it nor waits for it. What did not reach wandb can be sent at
any time from the run folders: `python -m src.sweep sync`.
"""

MODES = ("online", "offline", "disabled")
