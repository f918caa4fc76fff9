"""The commands of `python -m src.tune`, one a module."""
