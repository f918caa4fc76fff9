"""What is submitted: decided, written down, started, told."""
