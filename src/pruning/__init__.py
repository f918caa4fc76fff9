"""Pruning: which runs of a sweep are not worth training to their end."""
