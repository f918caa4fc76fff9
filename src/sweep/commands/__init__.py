"""The commands of python -m src.sweep, one a module, each with a `main` that takes its words."""
