"""Tests of the project."""

import gc

GC_THRESHOLD = gc.get_threshold()
gc.set_threshold(100_000, 50, 20)  # at Python's own, collecting tests takes a quarter longer
