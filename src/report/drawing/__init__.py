"""Drawings of the analyses: numbers in, figures out."""
