"""What the commands share: flags, error lines and exit statuses."""
