"""Analyses of single runs. Each module: first the numbers, then the drawing."""
