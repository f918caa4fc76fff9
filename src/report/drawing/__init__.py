"""Drawings of the analyses: numbers in, PNG and SVG files out."""
