"""Tracking: run folders mirrored in Weights & Biases and TensorBoard.

Training notifies a process of its own of every change in a run folder (wandb_process). That
process (`python -m src.tracking`) reads the folder and calls wandb (wandb_run), which may be slow,
hang or fail there: training neither imports wandb nor waits for it. What was not uploaded can be
uploaded at any time from the run folders: `python -m src.sweep sync`.
"""

MODES = ("online", "offline", "disabled")
