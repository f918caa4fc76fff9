"""Scripts that generate the screenshots and the metrics table of the documents."""
