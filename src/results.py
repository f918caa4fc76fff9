"""The first published name of `src.runs`: `src.results.load(runs_dir)` works as it did."""

from src.runs import load

__all__ = ["load"]
