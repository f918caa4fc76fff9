"""Finding settings: a learning-rate range test, and searches of several settings at a time."""
