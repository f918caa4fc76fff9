"""The commands of python -m src.sweep, one per module, each with main(arguments)."""
