"""Charts over all runs of a table. Each module: first the numbers, then the drawing."""
