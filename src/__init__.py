"""Hyperparameter sweeps on CIFAR-10."""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    # Before torch is imported: threads that wait for each other soon sleep rather than spin, which
    # beside other work on the same cores keeps those from running that they wait for. Training is
    # as fast alone, and many times as fast beside others: benchmarks/LOG.md
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
