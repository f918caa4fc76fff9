"""What the README shows, and what makes it."""
