"""Configurations compared over their seeds: intervals, the best of several, races, confirmation."""
