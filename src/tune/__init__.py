"""Tuning: a learning-rate range test, and searches with Optuna."""
