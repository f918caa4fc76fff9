"""The commands of `python -m src.tune`, one per module."""
