"""Fault injection: disturbed sweeps must give the same results as undisturbed ones.

`make chaos` runs all scenarios and writes the figures into docs/reliability.md; tests run a short
version.
"""
