"""Sweeps are disturbed in every way we know of, and must end as if nothing had happened.

`make chaos` runs everything and writes the figures into docs/reliability.md; tests run a short
form.
"""
