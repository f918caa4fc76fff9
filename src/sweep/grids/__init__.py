"""Blocks of a grid: their settings, conditions, samples and cells."""
